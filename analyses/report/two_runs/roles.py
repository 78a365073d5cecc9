"""Heads whose roles differ between two runs, and the state of each role in both."""

from dataclasses import dataclass

from rgb_circuit.heads import Head, rows_of

from ...roles import standing
from ..run import Run
from ..writing import listed


@dataclass(frozen=True)
class OtherRole:
    """A head whose roles differ between two runs.

    Attributes:
        head: the head.
        role: shown in one run and not in the other.
        verdicts: of A and of B, in words.
        refuted: whether the other run refutes the role, so that the two disagree; else its trials
            merely do not show it.
    """

    head: Head
    role: str
    verdicts: tuple[str, str]
    refuted: bool


def other_roles(a: Run, b: Run) -> list[OtherRole]:
    """Head by head, each role that is shown in only one run, disagreements first. Empty if a run
    has no roles."""
    if not all("roles" in run.frames for run in (a, b)):
        return []
    named = [_named(run) for run in (a, b)]
    differing = []
    for head, role in sorted(named[0] ^ named[1]):
        verdicts = [_verdict(run, head, role, shown) for run, shown in zip((a, b), named)]
        refuted = any(state == "refuted" for state, _ in verdicts)
        differing.append(OtherRole(head, role, (verdicts[0][1], verdicts[1][1]), refuted))
    return sorted(differing, key=lambda one: not one.refuted)


def _named(run) -> set[tuple[Head, str]]:
    table = run.frames["roles"]
    return {
        (Head(row.layer, row.head), role)
        for row in table[table["role"] != "none"].itertuples()
        for role in row.role.split(" + ")
    }


def _verdict(run, head, role, named):
    """The state of a role for a head, as a word and in a sentence."""
    if (head, role) in named:
        return "shown", role
    hypotheses = {hypothesis.name: hypothesis for hypothesis in run.task.hypotheses}
    if role not in hypotheses:
        return "untested", "not tested in this run"
    rows = rows_of(run.frames["evidence"], head).drop_duplicates("prediction")
    rows = rows.set_index("prediction")
    states = rows["state"].where(rows["void"] == "", "void").to_dict()
    against = [name for name in hypotheses[role].refutes if states[name] == "holds"]
    left: dict[str, list[str]] = {"refuted": [], "undecided": [], "void": []}
    for slot in hypotheses[role].slots:
        slot_states = [states[name] for name in slot]
        # Predictions of a slot can replace each other, so the best of them counts.
        state = next(one for one in ("holds", "undecided", "void", "refuted") if one in slot_states)
        if state != "holds":
            left[state].append(" or ".join(slot))
    words = {"refuted": "refuted", "undecided": "undecided", "void": "could not be tested"}
    reasons = [f"{listed(names)} {words[state]}" for state, names in left.items() if names]
    reasons += [f"{listed(against)} holds, which is evidence against it"] if against else []
    state = "refuted" if left["refuted"] or against else "undecided"
    return state, f"not shown: {'; '.join(reasons) or 'undecided'}"


def role_by_role(a: Run, b: Run) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """The state of each role: its name, and for A and B the state in words and the names of its
    heads."""
    names = dict.fromkeys(one.name for run in (a, b) for one in run.task.hypotheses)
    stands = [
        standing.standings(run.frames["evidence"], run.task) if "roles" in run.frames else {}
        for run in (a, b)
    ]
    return [
        (name, [_stands(run, own.get(name)) for run, own in zip((a, b), stands)])
        for name in names
        if any(name in own for own in stands)
    ]


def _stands(run, one):
    if one is None:
        why = run.why_not("roles") if "roles" not in run.frames else "not tested in this run"
        return why, []
    if one.heads:
        return "", [str(Head(*head)) for head in one.heads]
    return standing.none_is(one), []
