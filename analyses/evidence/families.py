"""From verdicts on predictions to verdicts on roles, and on several hypotheses of a file together.

**A role** is shown if everything that it asks for is: every prediction holds, or one that may stand
in for it, and every prediction under ``not`` is refuted. Its p is the largest of theirs, its q
Benjamini–Hochberg over heads. If everything holds, the weakest gets the role's q, if that is
larger.

**Several hypotheses.** If many hypotheses are tried, some are shown by chance. Each has a p for all
heads together (Simes), and Benjamini–Hochberg over these selects hypotheses. Within a selected one,
a head must reach the level times the share of hypotheses that is selected.

Source: Simes, Biometrika 73 (1986); Benjamini and Bogomolov, J. R. Stat. Soc. B 76 (2014).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rgb_circuit.hypothesis import Prediction, slots
from rgb_circuit.statistics import benjamini_hochberg


@dataclass(frozen=True)
class Role:
    """What one role asks for.

    Attributes:
        asked: lists of names of predictions; one of each list must hold.
        refutes: the names of the predictions that must be refuted.
        p: for each of ``asked``, then each of ``refutes``, (asked + refutes, heads).
        q: of the role, (heads,).
    """

    asked: list[list[str]]
    refutes: tuple[str, ...]
    p: np.ndarray
    q: np.ndarray

    @classmethod
    def of(
        cls, family: Sequence[Prediction], refutes: Sequence[str], judged: Mapping[str, Any]
    ) -> "Role":
        """The role that these predictions make up; ``judged``: name → `.verdict.Judged`."""
        asked = slots([prediction for prediction in family if prediction.name not in refutes])
        slot_p = [
            np.minimum(1, len(slot) * np.min([judged[name].p for name in slot], axis=0))
            for slot in asked
        ]
        p = np.stack([*slot_p, *(judged[name].against for name in refutes)])
        together = np.logical_and.reduce(
            [np.logical_or.reduce([judged[name].together for name in slot]) for slot in asked]
        )
        q = np.ones(p.shape[1])
        q[together] = benjamini_hochberg(p.max(0)[together])
        return cls(asked, tuple(refutes), p, q)

    def raise_weakest(
        self,
        q: np.ndarray,
        q_values: dict[str, np.ndarray],
        refuted_q: dict[str, np.ndarray],
        level: float,
    ) -> None:
        """Where the whole role is shown, raise the q of its weakest prediction to the role's
        ``q``."""
        complete = np.logical_and.reduce(
            [
                *(
                    np.logical_or.reduce([q_values[name] <= level for name in slot])
                    for slot in self.asked
                ),
                *(refuted_q[name] <= level for name in self.refutes),
            ]
        )
        pieces = [(q_values, slot) for slot in self.asked] + [
            (refuted_q, [name]) for name in self.refutes
        ]
        for number, (values, names) in enumerate(pieces):
            weakest = complete & (self.p.argmax(0) == number)
            for name in names:
                values[name] = np.where(weakest, np.maximum(values[name], q), values[name])


def corrected(roles: Sequence[Role], several: Collection[int], level: float) -> list[np.ndarray]:
    """The q of every role over heads; for the roles numbered in ``several``, over these roles as
    well."""
    q = [role.q for role in roles]
    if len(several) < 2:
        return q
    # The smallest adjusted p of a family is its Simes p.
    chosen = sorted(several)
    families = benjamini_hochberg(np.array([q[number].min() for number in chosen]))
    selected = max(1, int((families <= level).sum()))
    for number, of_family in zip(chosen, families):
        q[number] = np.minimum(1, np.maximum(q[number] * len(chosen) / selected, of_family))
    return q
