"""A hypothesis about heads, as values and as text.

1. A `Sweep` restores every head alone, from one picture's run in another's.
2. A `Claim` says what a sweep does to the word of a role; a `Prediction` is claims that must all
   hold.
3. A `Hypothesis` is the predictions that make up a role. `slots` says which of them may stand in
   for others.

A prediction is written in one line, read once and printed back the same:

    odd up: z clean -> recolored
    background up, odd not up: pattern clean -> erased
    odd up: value clean -> recolored; other down: pattern moved -> recolored
    background up through the extractors: pattern over image clean -> erased
    odd below half: z clean without image -> erased

| piece | is written |
|---|---|
| claims | ``WORDS: SWEEP``, several with ``;`` between |
| words | ``ROLE EXPECTED``, ``through the GROUP`` or ``past the GROUP`` may follow; several with ``,`` |
| sweep | ``COMPONENT SOURCE -> TARGET``, or with ``COMPONENT over TOKENS``, ``SOURCE without TOKENS`` |

Examples:
    >>> prediction = Prediction.parse("P2a", "odd not up, other not down: pattern clean -> recolored")
    >>> prediction.claims[1].role, prediction.claims[1].expected, prediction.claims[1].sweep.target
    ('other', 'not down', 'recolored')
    >>> prediction.text
    'odd not up, other not down: pattern clean -> recolored'
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from ..edits import OF_A_HEAD, Edit
from ..errors import InputError
from ..files.table_text import shortened

# What a claim may expect that is an effect, and what is the absence of one.
EFFECTS = ("up", "down", "mostly", "below half", "above others")
ABSENCES = ("not up", "not down", "none")
EXPECTATIONS = (*EFFECTS, *ABSENCES)
# What an effect is measured of: all of it, what goes through some heads, or what goes past them.
PARTS = ("whole", "through", "past")

EXAMPLE = "'right up, other not up: pattern clean -> corrupted'"
_EXPECTED = "|".join(sorted(EXPECTATIONS, key=len, reverse=True))
# Words of a claim; group names are the fields' names.
WORD = re.compile(
    rf"(?P<role>.+?) (?P<expected>{_EXPECTED})(?: (?P<part>through|past) the (?P<of>.+))?"
)
_SWEEP = re.compile(
    r"(?P<component>\S+)(?: over (?P<over>\S+))?"
    r" (?P<source>.+?)(?: without (?P<without>\S+))? -> (?P<target>.+)"
)
# Columns of the table of roles, beside one for every prediction.
COLUMNS = ("layer", "head", "role", "score", "colors")
# What stands between the pieces of a text stands in no name.
_NAME = re.compile(r"[^\s,:;](?:[^,:;]*[^\s,:;])?")


@dataclass(frozen=True)
class Sweep:
    """Every head alone, restored from ``source`` in the ``target`` run.

    Attributes:
        target, source: conditions; ``source`` may be ``"zero"``.
        component: what of a head is restored, as in `rgb_circuit.Edit`: "z", "pattern", "value", ….
        part: of the effect. "past" is what is left with some heads frozen at their target run,
            "through" what that takes away.
        over, without: position words, as in `rgb_circuit.Edit`; all positions, and none, where
            empty.
        of: the group of heads that are frozen, a hypothesis' ``short``; empty for the whole effect.

    Raises:
        InputError: a component or part that there is not, or a part of nothing.
    """

    target: str
    source: str = "clean"
    component: str = "z"
    part: str = "whole"
    over: str = ""
    without: str = ""
    of: str = ""

    def __post_init__(self):
        _among(self.component, OF_A_HEAD, "the component of a sweep")
        _among(self.part, PARTS, "the part of an effect")
        for name in (self.target, self.source):
            _check_name(name, "a condition")
        if (self.part == "whole") != (self.of == ""):
            raise InputError(
                f"a sweep has part {self.part!r} of {self.of!r}; name the heads that 'through' or "
                "'past' goes by, such as of='extractors', and none for the whole effect"
            )

    @property
    def whole(self) -> "Sweep":
        """The same sweep with nothing frozen."""
        return replace(self, part="whole", of="")

    @property
    def other_part(self) -> "Sweep":
        """Through for past, past for through."""
        return replace(self, part={"past": "through", "through": "past"}[self.part])

    @property
    def restores(self) -> str:
        """What is put into the target, in words: such as "z", "pattern over image" or "z without
        image"."""
        some = [f"{name} {words}" for name in ("over", "without") if (words := getattr(self, name))]
        return " ".join([self.component, *some])

    @property
    def text(self) -> str:
        """Without its part, which stands with the words of a claim.

        Examples:
            >>> Sweep("erased", component="pattern", over="image").text
            'pattern over image clean -> erased'
        """
        over = f" over {self.over}" if self.over else ""
        without = f" without {self.without}" if self.without else ""
        return f"{self.component}{over} {self.source}{without} -> {self.target}"

    def edit(self, head: tuple[int, int], positions: str | Sequence[int]) -> Edit:
        """A head's edit that does it."""
        some = {name: words for name in ("over", "without") if (words := getattr(self, name))}
        return replace(Edit(*head, self.source, self.component, positions), **some)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Claim:
    """What is expected of the mean effect on the logit of a role's word.

    Attributes:
        role: of an answer.
        expected: one of `EXPECTATIONS`.
        sweep: what is done.

    Raises:
        InputError: an expectation that there is not, or "mostly" of the whole effect.
    """

    role: str
    expected: str
    sweep: Sweep

    def __post_init__(self):
        _check_name(self.role, "the role of an answer")
        _among(self.expected, EXPECTATIONS, "what a claim expects")
        if not isinstance(self.sweep, Sweep):
            raise InputError(
                f"a claim's sweep is {shortened(self.sweep)}; give a Sweep, such as "
                "Sweep('corrupted')"
            )
        if self.expected == "mostly" and self.sweep.part == "whole":
            raise InputError(
                f"the claim '{self.role} mostly' is of the whole effect; say which part is larger, "
                f"such as '{self.role} mostly through the extractors'"
            )
        if self.expected == "below half" and not self.sweep.without:
            raise InputError(
                f"the claim '{self.role} below half' takes no attention away; say which, such as "
                f"'{self.role} below half: z clean without image -> {self.sweep.target}'"
            )

    def __str__(self) -> str:
        route = f" {self.sweep.part} the {self.sweep.of}" if self.sweep.of else ""
        return f"{self.role} {self.expected}{route}"

    @property
    def is_effect(self) -> bool:
        """Whether it claims that something happens; else it claims that nothing does."""
        return self.expected in EFFECTS


@dataclass(frozen=True)
class Prediction:
    """Claims that must all hold; the effect that the evidence shows is that of the first.

    Attributes:
        name: what frames call it.
        claims: one or more.
        instead_of: the prediction of the same hypothesis that this one may stand in for; of
            several, that which the hypothesis has.
        varied: the role of an answer that must not be the same word in all trials, or a head that
            always says that word would pass.
        says: it in plain words.

    Raises:
        InputError: no name, or something other than claims.
    """

    name: str
    claims: tuple[Claim, ...]
    instead_of: str | tuple[str, ...] | None = None
    varied: str | None = None
    says: str = ""

    def __post_init__(self):
        _check_name(self.name, "a prediction")
        if self.name in COLUMNS:
            raise InputError(
                f"a prediction is called {self.name!r}, like a column of the table of roles; "
                "rename it"
            )
        given = (self.claims,) if isinstance(self.claims, Claim) else tuple(self.claims)
        if not given or not all(isinstance(claim, Claim) for claim in given):
            raise InputError(
                f"the claims of prediction {self.name!r} are {shortened(self.claims)}; give one "
                f"Claim or more, or write them as text: Prediction.parse({self.name!r}, {EXAMPLE})"
            )
        object.__setattr__(self, "claims", given)

    @classmethod
    def parse(
        cls,
        name: str,
        text: str,
        *,
        instead_of: str | tuple[str, ...] | None = None,
        varied: str | None = None,
        says: str = "",
    ) -> "Prediction":
        """A prediction from its text; see the top of this file.

        Raises:
            InputError: the piece that cannot be read, and what may stand there.
        """
        return cls(name, parse_claims(text, name), instead_of, varied, says)

    @property
    def text(self) -> str:
        """Its claims as text, of which `parse` makes the same."""
        blocks = groupby(self.claims, lambda claim: claim.sweep.whole)
        return "; ".join(f"{', '.join(map(str, claims))}: {sweep.text}" for sweep, claims in blocks)

    @property
    def expected(self) -> str:
        """Its claims as evidence frames have them, without what is done."""
        return ", ".join(map(str, self.claims))

    @property
    def stands_in_for(self) -> tuple[str, ...]:
        """The names that it is ``instead_of``."""
        if self.instead_of is None:
            return ()
        return (self.instead_of,) if isinstance(self.instead_of, str) else tuple(self.instead_of)


@dataclass(frozen=True)
class Hypothesis:
    """What is claimed of a head: its role, and the predictions that all must hold.

    Attributes:
        name: the role, as frames have it.
        predictions: one or more, each of another name.
        says: what such a head does, in words.
        score: the predictions whose restored fractions make a head's score; all that claim an
            effect first, where none are named.
        plural: what several such heads are called.
        short: what ``through the …`` calls them; empty where no claim freezes them.
        in_circuit: whether they are part of the circuit that is hypothesised.
        cites: where the hypothesis is from.

    Raises:
        InputError: no prediction, two of one name, or a name that is none of its predictions'.
    """

    name: str
    predictions: tuple[Prediction, ...]
    says: str = ""
    score: tuple[str, ...] = ()
    plural: str = ""
    short: str = ""
    in_circuit: bool = False
    cites: str = ""

    def __post_init__(self):
        # Heads without a role have "none", and those with several have all, with " + " between.
        if self.name == "none" or " + " in str(self.name):
            raise InputError(
                f"a hypothesis is called {self.name!r}, which says of a head that it has no role, "
                "or several; rename it"
            )
        given = (
            tuple(self.predictions)
            if isinstance(self.predictions, Iterable)
            else (self.predictions,)
        )
        if not given or not all(isinstance(prediction, Prediction) for prediction in given):
            raise InputError(
                f"the predictions of hypothesis {self.name!r} are {shortened(self.predictions)}; "
                "give one Prediction or more"
            )
        object.__setattr__(self, "predictions", given)
        names = [prediction.name for prediction in given]
        if twice := [name for number, name in enumerate(names) if name in names[:number]]:
            raise InputError(
                f"hypothesis {self.name!r} has two predictions {twice[0]!r}; rename one"
            )
        for prediction in given:
            if prediction.stands_in_for and not set(prediction.stands_in_for) & set(names):
                raise InputError(
                    f"hypothesis {self.name!r}: {prediction.name} stands in for "
                    f"{' or '.join(prediction.stands_in_for)}, which it does not have; it has "
                    f"{', '.join(names)}"
                )
        if not slots(given):
            raise InputError(
                f"hypothesis {self.name!r} has only predictions that stand in for others; add those"
            )
        for name in self.score:
            _among(name, names, f"the score of hypothesis {self.name!r}")
        if not self.score:
            object.__setattr__(self, "score", _leading_effects(given))
        if not self.plural:
            object.__setattr__(self, "plural", f"{self.name} heads")

    @property
    def slots(self) -> list[list[str]]:
        """The names of what it asks for: each with those that may stand in for it."""
        return slots(self.predictions)

    @property
    def finders(self) -> tuple[Prediction, ...]:
        """The predictions by which the heads to freeze are found: all but those that only narrow
        down what such a head carries, since one that carries more is a route as well."""
        return tuple(
            prediction
            for prediction in self.predictions
            if not any(
                claim.expected in ("above others", "below half") for claim in prediction.claims
            )
        )

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of heads that its claims go through or past."""
        return groups(self.predictions)


def slots(predictions: Iterable[Prediction]) -> list[list[str]]:
    """The names of what predictions ask for: each with those that may stand in for it."""
    predictions = tuple(predictions)
    named = {
        prediction.name: [prediction.name]
        for prediction in predictions
        if not prediction.stands_in_for
    }
    for prediction in predictions:
        for name in prediction.stands_in_for:
            if name in named:
                named[name].append(prediction.name)
    return list(named.values())


def merged(families: Iterable[Iterable[Prediction]]) -> tuple[Prediction, ...]:
    """The predictions of some families, each once.

    Raises:
        InputError: two of one name that are not the same, which frames could not tell apart.
    """
    named: dict[str, Prediction] = {}
    for family in families:
        for prediction in family:
            if named.setdefault(prediction.name, prediction) != prediction:
                raise InputError(
                    f"two hypotheses have a prediction {prediction.name!r} that says two things: "
                    f"{named[prediction.name].text!r} and {prediction.text!r}; rename one"
                )
    return tuple(named.values())


def groups(predictions: Iterable[Prediction]) -> tuple[str, ...]:
    """The groups of heads that some predictions freeze."""
    claims = [claim for prediction in predictions for claim in prediction.claims]
    return tuple(dict.fromkeys(claim.sweep.of for claim in claims if claim.sweep.of))


def parse_claims(text: str, name: str) -> tuple[Claim, ...]:
    """The claims of a text; ``name``: of the prediction, for messages."""
    if not isinstance(text, str):
        raise InputError(
            f"prediction {name} is {shortened(text)}; write its claims as text, such as {EXAMPLE}"
        )
    claims = []
    for block in text.split(";"):
        words, colon, done = block.partition(":")
        if not colon:
            raise InputError(
                f"prediction {name}: {block.strip()!r} has no ':' between what is expected and "
                f"what is done; write it like {EXAMPLE}"
            )
        sweep = _SWEEP.fullmatch(" ".join(done.split()))
        if sweep is None:
            raise InputError(
                f"prediction {name}: {done.strip()!r} is no sweep; write COMPONENT SOURCE -> "
                "TARGET, such as 'z clean -> corrupted' or 'pattern over image clean -> corrupted'"
            )
        fields = {key: value or "" for key, value in sweep.groupdict().items()}
        for word in words.split(","):
            parsed = WORD.fullmatch(" ".join(word.split()))
            if parsed is None:
                raise InputError(
                    f"prediction {name}: {word.strip()!r} is no claim; write ROLE and one of "
                    f"{', '.join(EXPECTATIONS)}, and behind them 'through the GROUP' or 'past the "
                    f"GROUP' if wanted, such as {EXAMPLE}"
                )
            part, group = parsed["part"] or "whole", parsed["of"] or ""
            try:
                claims.append(
                    Claim(parsed["role"], parsed["expected"], Sweep(**fields, part=part, of=group))
                )
            except InputError as error:
                raise InputError(f"prediction {name}: {error}") from error
    return tuple(claims)


def _leading_effects(predictions):
    """The names of the predictions that stand in for none and whose first claim is an effect."""
    chosen = [
        prediction.name
        for prediction in predictions
        if prediction.claims[0].is_effect and not prediction.stands_in_for
    ]
    return tuple(chosen or [prediction.name for prediction in predictions])


def _among(value, allowed, what):
    if value not in allowed:
        raise InputError(f"{what} is {shortened(value)}; use one of {', '.join(allowed)}")


def _check_name(name, what):
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            f"{what} is called {shortened(name)}; use a name without commas, colons and semicolons"
        )
