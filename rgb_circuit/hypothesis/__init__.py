"""A hypothesis about heads, as values and as text.

1. A `Sweep` restores each head on its own, from one picture's run into another's.
2. A `Claim` says what a sweep does to the word of a role; a `Look` says where a head looks. A
   `Prediction` is a set of claims that must all hold, all of the same kind.
3. A `Hypothesis` is the predictions that make up a role. `slots` lists which of them may stand in
   for others.

A prediction is one line of text, and prints back as the same line:

    odd up: z clean -> recolored
    background up, odd not up: pattern clean -> erased
    odd up: value clean -> recolored; other down: pattern moved -> recolored
    background up through the extractors: pattern over image clean -> erased
    odd below half: z clean without image -> erased
    attention image above even, attention entropy below median: clean

| piece | is written |
|---|---|
| claims | ``WORDS: SWEEP``, several with ``;`` between |
| words | ``ROLE EXPECTED``, also ``through the GROUP``, ``past the GROUP``; several with ``,`` |
| sweep | ``COMPONENT SOURCE -> TARGET``; ``COMPONENT over TOKENS``, ``SOURCE without TOKENS`` |
| looks | ``attention TOKENS above even: CONDITION``; ``attention entropy below median: …`` |

Examples:
    >>> text = "odd not up, other not down: pattern clean -> recolored"
    >>> prediction = Prediction.parse("P2a", text)
    >>> prediction.claims[1].role, prediction.claims[1].expected, prediction.claims[1].sweep.target
    ('other', 'not down', 'recolored')
    >>> prediction.text
    'odd not up, other not down: pattern clean -> recolored'
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from ..edits import ARTIFICIAL, OF_A_HEAD, OF_ATTENTION, Edit
from ..errors import InputError
from ..files.table_text import shortened

# Expectations that an effect meets, and those that the absence of an effect meets.
EFFECTS = ("up", "down", "mostly", "below half", "above others", "biased")
ABSENCES = ("not up", "not down", "none")
EXPECTATIONS = (*EFFECTS, *ABSENCES)
# Expectations about attention: its share on some tokens, and how far it spreads over the picture.
ABOVE_EVEN, BELOW_MEDIAN = "above even", "below median"
# Parts of an effect: all of it, what goes through some heads, or what goes past them.
PARTS = ("whole", "through", "past")

EXAMPLE = "'right up, other not up: pattern clean -> corrupted'"
_EXPECTED = "|".join(sorted(EXPECTATIONS, key=len, reverse=True))
# Words of a claim; the groups are named like the fields.
WORD = re.compile(
    rf"(?P<role>.+?) (?P<expected>{_EXPECTED})(?: (?P<part>through|past) the (?P<of>.+))?"
)
_SWEEP = re.compile(
    r"(?P<component>\S+)(?: over (?P<over>\S+))?"
    r" (?P<source>.+?)(?: without (?P<without>\S+))? -> (?P<target>.+)"
)
LOOK = re.compile(rf"attention (?P<at>.+) (?P<expected>{ABOVE_EVEN}|{BELOW_MEDIAN})")
LOOK_EXAMPLE = "'attention image above even: clean' or 'attention entropy below median: clean'"
# Columns of the table of roles, in addition to one for each prediction.
COLUMNS = ("layer", "head", "role", "score", "colors")
# No name contains the punctuation that separates the pieces of a text.
_NAME = re.compile(r"[^\s,:;](?:[^,:;]*[^\s,:;])?")


@dataclass(frozen=True)
class Sweep:
    """Each head on its own, restored from ``source`` in the ``target`` run.

    Attributes:
        target, source: conditions; ``source`` may be ``"zero"`` or ``"mean"``, the mean over the
            trials' target runs.
        component: the part of a head to restore, as in `rgb_circuit.Edit`: "z", "pattern", "value",
            ….
        part: of the effect. "past" is the effect that is left with some heads frozen at their
            target run; "through" is the rest of it.
        over, without: position words, as in `rgb_circuit.Edit`; if empty, all positions and none.
        of: the group of frozen heads, a hypothesis' ``short``; empty for the whole effect.

    Raises:
        InputError: an unknown component or part, a source that cannot be restored, a "through" or
            "past" without a group, or a group without either.
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
        self._check_source()
        if (self.part == "whole") != (self.of == ""):
            raise InputError(
                f"a sweep has part {self.part!r} of {self.of!r}; name the heads that 'through' or "
                "'past' goes by, such as of='extractors', and none for the whole effect"
            )

    def _check_source(self):
        """Raise InputError for a sweep that would change nothing, or whose pictures are none."""
        if self.target in ARTIFICIAL:
            raise InputError(
                f"the sweep '{self.text}' ends in {self.target!r}, which is no picture; the "
                "picture that is changed stands last, as in 'z zero -> clean'"
            )
        same = self.source == self.target and not self.without
        if same or self.source in ("own", "rounding"):
            raise InputError(
                f"the sweep '{self.text}' leaves a head as it is; name another picture as its "
                "source, or zero or mean, which silence the head"
            )
        attends = self.component in OF_ATTENTION or self.over or self.without
        if self.source in ARTIFICIAL and attends:
            raise InputError(
                f"the sweep '{self.text}' takes attention from {self.source!r}, which has none; "
                f"write 'z {self.source} -> {self.target}'"
            )

    @property
    def whole(self) -> "Sweep":
        """The same sweep with nothing frozen."""
        return replace(self, part="whole", of="")

    @property
    def other_part(self) -> "Sweep":
        """The sweep of "through" for "past", and the reverse."""
        return replace(self, part={"past": "through", "through": "past"}[self.part])

    @property
    def restores(self) -> str:
        """What the sweep puts into the target, such as "z", "pattern over image" or "z without
        image"."""
        limits = [
            f"{name} {words}" for name in ("over", "without") if (words := getattr(self, name))
        ]
        return " ".join([self.component, *limits])

    @property
    def text(self) -> str:
        """The sweep as text, without its part, which a claim writes with its words.

        Examples:
            >>> Sweep("erased", component="pattern", over="image").text
            'pattern over image clean -> erased'
        """
        over = f" over {self.over}" if self.over else ""
        without = f" without {self.without}" if self.without else ""
        return f"{self.component}{over} {self.source}{without} -> {self.target}"

    def edit(self, head: tuple[int, int], positions: str | Sequence[int]) -> Edit:
        """The edit that does this sweep to one head."""
        limits = {name: words for name in ("over", "without") if (words := getattr(self, name))}
        return replace(Edit(*head, self.source, self.component, positions), **limits)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Claim:
    """The expected mean effect on the logit of a role's word.

    Attributes:
        role: of an answer.
        expected: one of `EXPECTATIONS`.
        sweep: the sweep that has the effect.

    Raises:
        InputError: an unknown expectation, "mostly" of the whole effect, or "below half" of a sweep
            without ``without``.
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
        """Whether the claim expects an effect; otherwise it expects none."""
        return self.expected in EFFECTS


@dataclass(frozen=True)
class Look:
    """Where a head is expected to look from [end].

    "above even": some tokens get a larger share of its attention than if it looked at all tokens of
    the prompt alike. "below median": its attention over the picture has a lower entropy than that
    of half of the model's heads, so it looks at less of the picture.

    Attributes:
        at: the tokens, a position word as in `rgb_circuit.prompts.locate`; or "entropy", of the
            picture.
        expected: "above even" for tokens, "below median" for the entropy.
        condition: the picture that the model sees.

    Raises:
        InputError: an unknown expectation, or one that does not go with ``at``.

    Examples:
        >>> str(Look("image", "above even"))
        'attention image above even'
    """

    at: str
    expected: str
    condition: str = "clean"

    def __post_init__(self):
        _check_name(self.at, "what attention goes to")
        _check_name(self.condition, "a condition")
        _among(self.expected, (ABOVE_EVEN, BELOW_MEDIAN), "what a claim about attention expects")
        if (self.at == "entropy") != (self.expected == BELOW_MEDIAN):
            raise InputError(
                f"'{self}' does not go together: tokens are 'above even', and the entropy is "
                f"'below median'; write it like {LOOK_EXAMPLE}"
            )
        if self.at.endswith(" not"):
            raise InputError(
                f"'{self}' claims that a head does not look there; make "
                f"'attention {self.at.removesuffix(' not')} {self.expected}: {self.condition}' a "
                "prediction, and name it under 'not', since it must be refuted"
            )
        if self.at == "all":
            raise InputError(
                "'attention all' is of all tokens, where every head looks; name some of them, such "
                "as 'attention image above even'"
            )

    def __str__(self) -> str:
        return f"attention {self.at} {self.expected}"

    @property
    def is_effect(self) -> bool:
        """Always true: a claim about attention never expects an absence."""
        return True


@dataclass(frozen=True)
class Prediction:
    """Claims that must all hold; evidence frames show the effect of the first.

    Attributes:
        name: its name in frames.
        claims: one or more, all about words or all about attention.
        instead_of: the prediction of the same hypothesis that this one may stand in for, or
            several; names that the hypothesis lacks are ignored.
        varied: the role of an answer that must vary over trials; otherwise a head that always says
            the same word would pass.
        says: the prediction in plain words.

    Raises:
        InputError: no name, claims that are no claims, or claims of both kinds.
    """

    name: str
    claims: tuple[Claim | Look, ...]
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
        given = (self.claims,) if isinstance(self.claims, (Claim, Look)) else tuple(self.claims)
        if not given or not all(isinstance(claim, (Claim, Look)) for claim in given):
            raise InputError(
                f"the claims of prediction {self.name!r} are {shortened(self.claims)}; give one "
                f"Claim or more, or write them as text: Prediction.parse({self.name!r}, {EXAMPLE})"
            )
        if len({type(claim) for claim in given}) > 1:
            raise InputError(
                f"prediction {self.name}: it speaks of attention and of the answer's words, which "
                "are not measured alike; make two predictions of it"
            )
        object.__setattr__(self, "claims", given)

    @property
    def about_attention(self) -> bool:
        """Whether its claims are about where a head looks, not about the answer's words."""
        return isinstance(self.claims[0], Look)

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
        """Read a prediction from its text; the module's docstring has the syntax.

        Raises:
            InputError: names the piece that cannot be read, and what may stand there.
        """
        return cls(name, parse_claims(text, name), instead_of, varied, says)

    @property
    def text(self) -> str:
        """Its claims as text that `parse` reads back."""
        blocks = groupby(self.claims, what_is_done)
        return "; ".join(
            f"{', '.join(map(str, claims))}: {what.text if isinstance(what, Sweep) else what}"
            for what, claims in blocks
        )

    @property
    def expected(self) -> str:
        """Its claims as evidence frames show them, without the sweeps."""
        return ", ".join(map(str, self.claims))

    @property
    def stands_in_for(self) -> tuple[str, ...]:
        """The names in ``instead_of``."""
        if self.instead_of is None:
            return ()
        return (self.instead_of,) if isinstance(self.instead_of, str) else tuple(self.instead_of)


@dataclass(frozen=True)
class Hypothesis:
    """A role of a head, and the predictions that must all hold for it.

    Attributes:
        name: the role, as in frames.
        predictions: one or more, with different names.
        says: what such a head does, in words.
        score: the predictions whose restored fractions make a head's score; by default all whose
            first claim is an effect.
        plural: the name for several such heads.
        short: the name of these heads in ``through the …``; empty where no claim freezes them.
        in_circuit: whether these heads are part of the hypothesised circuit.
        cites: the source of the hypothesis.
        refutes: the predictions that must be refuted for a head; ``not`` in a file.
        rivals: other explanations of what such a head shows, tested with it.

    Raises:
        InputError: no prediction, two with the same name, or a name of no prediction in ``score``
            or ``refutes``.
    """

    name: str
    predictions: tuple[Prediction, ...]
    says: str = ""
    score: tuple[str, ...] = ()
    plural: str = ""
    short: str = ""
    in_circuit: bool = False
    cites: str = ""
    refutes: tuple[str, ...] = ()
    rivals: tuple["Hypothesis", ...] = ()

    def __post_init__(self):
        if not isinstance(self.name, str) or not self.name.strip():
            raise InputError(
                f"a hypothesis is called {shortened(self.name)}; give it a name, such as 'reader'"
            )
        # A head without a role has the role "none"; the roles of one head are joined by " + ".
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
        self._check_refutes(names)
        for name in self.score:
            _among(
                name, [one.name for one in self._wanted], f"the score of hypothesis {self.name!r}"
            )
        if not self.score:
            object.__setattr__(self, "score", _leading_effects(self._wanted))
        if not self.plural:
            object.__setattr__(self, "plural", f"{self.name} heads")

    def _check_refutes(self, names):
        """Raise InputError for what cannot stand under ``refutes``."""
        for name in self.refutes:
            _among(name, names, f"not of hypothesis {self.name!r}")
        if not self._wanted:
            raise InputError(
                f"hypothesis {self.name!r} has only predictions that must be refuted; add one that "
                "must hold"
            )
        for prediction in self.predictions:
            pair = {prediction.name, *prediction.stands_in_for}
            if prediction.stands_in_for and pair & {*self.refutes}:
                raise InputError(
                    f"hypothesis {self.name!r}: {prediction.name} stands in for "
                    f"{' or '.join(prediction.stands_in_for)}, so none of them can stand under "
                    "not; make it a prediction by itself"
                )

    @property
    def slots(self) -> list[list[str]]:
        """The names of the predictions that must hold, each with those that may stand in for it."""
        return slots(self._wanted)

    @property
    def _wanted(self):
        """The predictions that must hold."""
        return tuple(
            prediction for prediction in self.predictions if prediction.name not in self.refutes
        )

    @property
    def tested(self) -> tuple[Prediction, ...]:
        """Its predictions and its rivals', each once."""
        return merged([self.predictions, *(rival.predictions for rival in self.rivals)])

    @property
    def finders(self) -> tuple[Prediction, ...]:
        """The predictions that find the heads to freeze. Those that only narrow down what such a
        head carries are left out, since a head that carries more is a route as well."""
        return tuple(
            prediction
            for prediction in self._wanted
            if not any(
                claim.expected in ("above others", "below half") for claim in prediction.claims
            )
        )

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of heads that its claims go through or past."""
        return groups(self.tested)


def slots(predictions: Iterable[Prediction]) -> list[list[str]]:
    """The names of the predictions, each with those that may stand in for it."""
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
    """The predictions of several families, each once.

    Raises:
        InputError: different predictions with the same name, which frames could not tell apart.
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
    """The groups of heads that these predictions freeze."""
    return tuple(
        dict.fromkeys(claim.sweep.of for claim in about_words(predictions) if claim.sweep.of)
    )


def about_words(predictions: Iterable[Prediction]) -> list[Claim]:
    """The claims of these predictions about the answer's words; each has a sweep."""
    return [claim for one in predictions for claim in one.claims if isinstance(claim, Claim)]


def about_attention(predictions: Iterable[Prediction]) -> list[Look]:
    """The claims of these predictions about where heads look."""
    return [claim for one in predictions for claim in one.claims if isinstance(claim, Look)]


def what_is_done(claim: Claim | Look) -> Sweep | str:
    """The claim's sweep with nothing frozen, or the condition that its heads look at."""
    return claim.condition if isinstance(claim, Look) else claim.sweep.whole


def parse_claims(text: str, name: str) -> tuple[Claim | Look, ...]:
    """The claims of a text; ``name`` is the prediction's, for error messages."""
    if not isinstance(text, str):
        raise InputError(
            f"prediction {name} is {shortened(text)}; write its claims as text, such as {EXAMPLE}"
        )
    claims: list[Claim | Look] = []
    for block in _pieces(re.sub(" *(→|->) *", " -> ", text), ";"):
        words, colon, rest = block.partition(":")
        if not colon:
            raise InputError(
                f"prediction {name}: {block.strip()!r} has no ':' between what is expected and "
                f"what is done; write it like "
                f"{LOOK_EXAMPLE if words.split()[:1] == ['attention'] else EXAMPLE}"
            )
        if "->" not in rest and words.split()[:1] == ["attention"]:
            claims += _parse_looks(words, " ".join(rest.split()), name)
            continue
        sweep = _SWEEP.fullmatch(" ".join(rest.split()))
        if sweep is None and words.split()[:1] == ["attention"]:
            raise InputError(
                f"prediction {name}: a claim about attention is of one picture, not of "
                f"{rest.strip()!r}; write it like {LOOK_EXAMPLE}, and claim other pictures in "
                "predictions of their own"
            )
        if sweep is None:
            raise InputError(
                f"prediction {name}: {rest.strip()!r} is no sweep; write COMPONENT SOURCE -> "
                "TARGET, such as 'z clean -> corrupted' or 'pattern over image clean -> corrupted'"
            )
        fields = {key: value or "" for key, value in sweep.groupdict().items()}
        for word in _pieces(words, ","):
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


def _pieces(text, mark):
    """The pieces between marks; a mark may also stand behind the last piece."""
    *pieces, last = text.split(mark)
    return [*pieces, last] if last.strip() or not pieces else pieces


def _parse_looks(words, condition, name):
    """The claims about attention in one block of a text."""
    looks = []
    for word in _pieces(words, ","):
        parsed = LOOK.fullmatch(" ".join(word.split()))
        if parsed is None:
            raise InputError(
                f"prediction {name}: {word.strip()!r} says nothing of attention that can be "
                f"tested; write it like {LOOK_EXAMPLE}"
            )
        try:
            looks.append(Look(parsed["at"], parsed["expected"], condition))
        except InputError as error:
            raise InputError(f"prediction {name}: {error}") from error
    return looks


def _leading_effects(predictions):
    """The names of the predictions whose first claim is an effect on the answer and that stand in
    for no other; without any, those about attention; without these, all."""
    primary = [prediction for prediction in predictions if not prediction.stands_in_for]
    looks = [prediction for prediction in primary if prediction.about_attention]
    effects = [
        prediction
        for prediction in primary
        if prediction.claims[0].is_effect and prediction not in looks
    ]
    return tuple(prediction.name for prediction in effects or looks or predictions)


def _among(value, allowed, what):
    if value not in allowed:
        raise InputError(f"{what} is {shortened(value)}; use one of {', '.join(allowed)}")


def _check_name(name, what):
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            f"{what} is called {shortened(name)}; use a name without commas, colons and semicolons"
        )
