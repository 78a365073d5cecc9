"""From verdicts on predictions to verdicts on roles, and on several hypotheses of a file together.

**A role** is shown where all that it asks for is: every prediction holds, or one that may stand in
for it, and every prediction under ``not`` is refuted. Its p is the largest of theirs, its q
Benjamini–Hochberg over heads. Where everything holds, the weakest has the role's q, if that is
larger.

**Several hypotheses.** Of many that are tried, some are shown by chance. A hypothesis has a p for
all heads together, by Simes; hypotheses are selected by Benjamini–Hochberg over these; and within a
selected one a head must reach the level times the share that is selected.

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
        asked: the names of predictions of which one must hold, each.
        refutes: the names of those that must be refuted.
        p: of each that is asked for and then of each to refute, (asked + refutes, heads).
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
        """The role that some predictions make up; ``judged``: name → `.verdict.Judged`."""
        asked = slots([prediction for prediction in family if prediction.name not in refutes])
        own = [
            np.minimum(1, len(slot) * np.min([judged[name].p for name in slot], axis=0))
            for slot in asked
        ]
        p = np.stack([*own, *(judged[name].against for name in refutes)])
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
        """Where all that is asked for is shown, give the weakest the role's ``q``, if that is
        larger."""
        every = np.logical_and.reduce(
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
            weakest = every & (self.p.argmax(0) == number)
            for name in names:
                values[name] = np.where(weakest, np.maximum(values[name], q), values[name])


def corrected(roles: Sequence[Role], several: Collection[int], level: float) -> list[np.ndarray]:
    """The q of every role over heads, and for those that are among ``several``, over these as
    well."""
    q = [role.q for role in roles]
    if len(several) < 2:
        return q
    # The smallest adjusted p of a family is its p by Simes.
    chosen = sorted(several)
    families = benjamini_hochberg(np.array([q[number].min() for number in chosen]))
    selected = max(1, int((families <= level).sum()))
    for number, of_family in zip(chosen, families):
        q[number] = np.minimum(1, np.maximum(q[number] * len(chosen) / selected, of_family))
    return q
