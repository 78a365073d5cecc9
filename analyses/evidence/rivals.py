"""Which hypotheses no head can meet together, and which no claim tells apart: read from their
claims."""

from collections.abc import Sequence
from itertools import combinations, permutations, product

from rgb_circuit.hypothesis import Claim, Hypothesis

# What cannot be said of one word in one sweep besides.
_FORBIDS = {
    "up": {"not up", "none", "down"},
    "down": {"not down", "none", "up"},
    "above others": {"not up", "none", "down"},
}
# What is said with it.
_IMPLIES = {"up": ("not down",), "down": ("not up",), "none": ("not up", "not down")}


def ways(hypothesis: Hypothesis) -> list[list[Claim]]:
    """The claims of every choice of predictions that makes up a role, but for choices that
    contradict themselves; empty where all do, so that no head can have the role."""
    named = {prediction.name: prediction for prediction in hypothesis.predictions}
    choices = [[named[name] for name in names] for names in product(*hypothesis.slots)]
    claims = [[claim for prediction in choice for claim in prediction.claims] for choice in choices]
    return [some for some in claims if _agree(some)]


def exclusive(hypotheses: Sequence[Hypothesis]) -> list[tuple[str, str]]:
    """The pairs of names of which no head can meet both hypotheses, since one asks for what the
    other forbids, whichever predictions stand in for others.

    Examples:
        >>> from analyses.evidence import rivals
        >>> rivals.exclusive(rgb.tasks()["rgb"].hypotheses)[0]
        ('color extractor', 'row or column localization')
    """
    return [
        (first.name, second.name)
        for first, second in combinations(hypotheses, 2)
        if not any(_agree([*some, *others]) for some in ways(first) for others in ways(second))
    ]


def covered(hypotheses: Sequence[Hypothesis]) -> list[tuple[str, str]]:
    """The pairs (narrow, wide) of names of which every head that meets the first meets the second,
    since the second claims nothing that the first does not.

    Examples:
        >>> from analyses.evidence import rivals
        >>> from rgb_circuit.hypothesis import Hypothesis, Prediction
        >>> up = Prediction.parse("A", "odd up: z clean -> erased")
        >>> still = Prediction.parse("B", "odd none: pattern clean -> erased")
        >>> rivals.covered([Hypothesis("reader", (up, still)), Hypothesis("riser", (up,))])
        [('reader', 'riser')]
    """
    return [
        (first.name, second.name)
        for first, second in permutations(hypotheses, 2)
        if _within(second, first)
    ]


def _within(wide, narrow):
    """Whether each way of meeting ``narrow`` meets ``wide``; some way there must be."""
    chosen = [_implied(claims) for claims in ways(narrow)]
    return bool(chosen) and all(
        any(claims >= set(some) for some in ways(wide)) for claims in chosen
    )


def _implied(claims):
    """Some claims, and what they say besides."""
    more = [
        Claim(claim.role, expected, claim.sweep)
        for claim in claims
        for expected in _IMPLIES.get(claim.expected, ())
    ]
    return {*claims, *more}


def _agree(claims):
    """Whether no two of some claims contradict each other."""
    return not any(_contradict(claim, other) for claim in claims for other in claims)


def _contradict(claim, other):
    if claim.role != other.role or claim.sweep.whole != other.sweep.whole:
        return False
    if claim.expected == other.expected == "mostly":
        return claim.sweep.part != other.sweep.part
    return claim.sweep.part == other.sweep.part and other.expected in _FORBIDS.get(
        claim.expected, ()
    )
