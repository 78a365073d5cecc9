"""Which hypotheses exclude each other, and which no claim tells apart; found from their claims
alone."""

from collections.abc import Sequence
from itertools import combinations, permutations, product

from rgb_circuit.hypothesis import Claim, Hypothesis, Look

# Expectations that contradict this one, for one word in one sweep.
_FORBIDS = {
    "up": {"not up", "none", "down"},
    "down": {"not down", "none", "up"},
    "above others": {"not up", "none", "down"},
    "biased": {"up", "down", "above others", "not up", "not down", "none"},
}
# Expectations that follow from this one.
_IMPLIES = {"up": ("not down",), "down": ("not up",), "none": ("not up", "not down")}


def ways(hypothesis: Hypothesis) -> list[list[Claim | Look]]:
    """For each choice of predictions that makes up a role, its claims. Choices that contradict
    themselves are left out; if all do, the list is empty, and no head can have the role."""
    named = {prediction.name: prediction for prediction in hypothesis.predictions}
    choices = [[named[name] for name in names] for names in product(*hypothesis.slots)]
    claims = [[claim for prediction in choice for claim in prediction.claims] for choice in choices]
    return [some for some in claims if _agree(some)]


def exclusive(hypotheses: Sequence[Hypothesis]) -> list[tuple[str, str]]:
    """The pairs of names of hypotheses that no head can meet both: whichever predictions stand in
    for others, one asks for what the other forbids.

    Examples:
        >>> from analyses.evidence import rivals
        >>> rivals.exclusive(rgb.tasks()["rgb"].hypotheses)[0]
        ('color extractor', 'row or column localization')
    """
    return [
        (first.name, second.name)
        for first, second in combinations(hypotheses, 2)
        if not any(_agree([*some, *others]) for some in ways(first) for others in ways(second))
        or _denies(first, second)
        or _denies(second, first)
    ]


def covered(hypotheses: Sequence[Hypothesis]) -> list[tuple[str, str]]:
    """The pairs (narrow, wide) of names such that every head that meets the first meets the second,
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
    """Whether each way of meeting ``narrow`` meets ``wide``; False if there is no way."""
    chosen = [_implied(claims) for claims in ways(narrow)]
    return bool(chosen) and all(
        any(claims >= set(some) for some in ways(wide)) for claims in chosen
    )


def _implied(claims):
    """The claims, and those that follow from them."""
    more = [
        Claim(claim.role, expected, claim.sweep)
        for claim in claims
        if isinstance(claim, Claim)
        for expected in _IMPLIES.get(claim.expected, ())
    ]
    return {*claims, *more}


def _agree(claims):
    """Whether no two of the claims contradict each other."""
    return not any(_contradict(claim, other) for claim in claims for other in claims)


def _contradict(claim, other):
    if isinstance(claim, Look) or isinstance(other, Look):
        return _opposite(claim, other)
    if claim.role != other.role or claim.sweep.whole != other.sweep.whole:
        return False
    if claim.expected == other.expected == "mostly":
        return claim.sweep.part != other.sweep.part
    return claim.sweep.part == other.sweep.part and other.expected in _FORBIDS.get(
        claim.expected, ()
    )


def _opposite(claim, other):
    """Whether no head can look as two claims say: tokens are either image or text."""
    if (
        not (isinstance(claim, Look) and isinstance(other, Look))
        or claim.condition != other.condition
    ):
        return False
    return {claim.at, other.at} == {"image", "text"}


def _denies(hypothesis, other):
    """Whether a hypothesis wants a prediction refuted that every way of meeting another implies."""
    denied = [one.claims for one in hypothesis.predictions if one.name in hypothesis.refutes]
    return any(
        all(_implied(claims) >= set(own) for claims in ways(other)) for own in denied if ways(other)
    )
