"""A task as a value: what its pictures show, what its answers stand for, and the hypotheses about
heads.

Each condition lists the roles whose words its picture *shows*, that is, gives a reason to say.
Everything else that evidence needs follows from these lists:

- **Controls** of a target picture are the roles drawn from the task's words that neither it nor the
  clean picture shows. A word's logit is read relative to their mean.
- **The gap** is the fall of the right answer's word from the clean picture to the changed one; to
  the ``corrupted`` one if the changed picture has the same right answer.
- **Similarity** of words is subtracted from a claim of absence if the target shows a single word,
  which is not the claim's.
- **Questions** may have slots, such as ``{shape}``; each trial fills them with words that the task
  lists. A task may have templates: other ways of asking the same.

A task is data: `Task.plain` gives it as JSON and TOML can hold it, and `Task.of_plain` reads it
back (`rgb_circuit.stimuli.tasks.read_task` from a file). Only ``draw`` is code.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from .edits import ARTIFICIAL
from .errors import InputError
from .files.table_text import shortened
from .hypothesis import (
    Claim,
    Hypothesis,
    Prediction,
    Sweep,
    about_attention,
    about_words,
    groups,
    merged,
    pairs,
)
from .hypothesis.plain_tables import (
    filled,
    hypotheses_of,
    known_keys,
    listed,
    made,
    named_prediction,
    plain_hypothesis,
    plain_prediction,
    strings,
    typed,
)
from .pictures import picture_hash
from .trial import Trial


@dataclass(frozen=True)
class Role:
    """What an answer stands for.

    Attributes:
        says: a description, such as "colour of the odd tile".
        word: the answer, if it is the same in all trials, such as "white"; else None. Such a word
            is not a control, and a trial may lack it, which leaves claims about it void.
    """

    says: str = ""
    word: str | None = None


@dataclass(frozen=True)
class Condition:
    """A picture that every trial of a task has.

    Attributes:
        says: a description, such as "the tile in the other colour".
        right: the role of the right answer; None if no answer is right.
        shows: the roles whose words the picture gives a reason to say.
        question: about this picture, if it differs from the task's.
        picture: another condition whose picture this one uses; empty for its own.
    """

    says: str = ""
    right: str | None = None
    shows: tuple[str, ...] = ()
    question: str = ""
    picture: str = ""


@dataclass(frozen=True)
class Template:
    """Another way of asking what a task asks.

    Attributes:
        question: about every picture.
        questions: condition → the question about its picture, for conditions with their own.
        words: the two answers to a question that names an answer in its slot ``{answer}``: that
            this is right, and that it is not, such as ("yes", "no"). Empty: the answers are the
            task's.
    """

    question: str
    questions: Mapping[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()


# The name of a task's own way of asking, among its templates.
PLAIN = "plain"
_SLOT = re.compile(r"\{(\w+)\}")


Draw = Callable[..., list[Trial]]


@dataclass(frozen=True)
class Task:
    """The question, the pictures, the answers, and the hypotheses about heads.

    Attributes:
        name: the value of ``--task``.
        question: about every picture; it may have slots, such as ``{shape}``.
        roles: role of an answer → what it stands for; in the order in which answers are kept.
        conditions: condition → its picture; "clean" first.
        corrupted: the condition that circuits and routes are measured against.
        says: a description of the task, such as "the RGB game".
        asks: a description of what a model must do.
        second_question: another question about the clean picture, or the condition that asks it
            there, and the role of its right answer.
        vocabulary: word that roles are drawn from → what drawing needs to know of it.
        hypotheses: the roles of heads.
        checks: further predictions to test, which belong to no hypothesis.
        panels: panel → (target, role); if empty, every other picture with the right answer's word.
        trials: the file of its trials, if they are not drawn (`rgb_circuit.read_trials`).
        chance: the share of right answers that guessing gives; None: 1 / the number of words that
            are right for some picture.
        place: a name for the marked tile, such as "the odd tile"; empty if none is marked.
        slots: slot of a question → the words that may fill it.
        templates: name → another way of asking; ``template=NAME`` draws trials with it.
        draw: draws trials; None if pictures come from files.

    Raises:
        InputError: no clean picture, a slot without words, or a name that the task does not have.

    Examples:
        >>> from rgb_circuit.task import Condition, Role
        >>> roles = {side: Role(f"what stands on the {side}") for side in ("left", "right")}
        >>> clean, mirrored = Condition(right="left"), Condition(right="right")
        >>> pictures = {"clean": clean, "mirrored": mirrored}
        >>> task = rgb.Task("sides", "What is on the left?", roles, pictures, corrupted="mirrored")
        >>> task.right, task.targets
        ('left', ('mirrored',))
    """

    name: str
    question: str
    roles: Mapping[str, Role]
    conditions: Mapping[str, Condition]
    corrupted: str
    says: str = ""
    asks: str = ""
    second_question: tuple[str, str] | None = None
    vocabulary: Mapping[str, Any] = field(default_factory=dict)
    hypotheses: tuple[Hypothesis, ...] = ()
    checks: tuple[Prediction, ...] = ()
    panels: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    place: str = ""
    trials: str = ""
    chance: float | None = None
    slots: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    templates: Mapping[str, Template] = field(default_factory=dict)
    draw: Draw | None = field(default=None, compare=False, repr=False)

    def __post_init__(self):
        if next(iter(self.conditions), None) != "clean":
            raise InputError(
                f"task {self.name!r}: the first of its conditions is not 'clean'; add it, first"
            )
        self._has(self.corrupted, self.conditions, "corrupted")
        for name, condition in self.conditions.items():
            for role in (*condition.shows, *([] if condition.right is None else [condition.right])):
                self._has(role, self.roles, f"condition {name!r}")
            if condition.picture:
                self._has(condition.picture, self.conditions, f"condition {name!r}")
        self._check_questions()
        if self.conditions["clean"].right is None and self.hypotheses:
            raise InputError(
                f"task {self.name!r}: condition 'clean' has no right answer, so nothing can be "
                "restored; say which role it is, such as right = 'right'"
            )
        if self.second_question is not None:
            self._has(self.second_question[1], self.roles, "second_question")
        for panel, (target, role) in self.panels.items():
            self._has(target, self.conditions, f"panel {panel!r}")
            self._has(role, self.roles, f"panel {panel!r}")
        if self.chance is not None and not 0 <= self.chance < 1:
            raise InputError(
                f"task {self.name!r}: chance is {shortened(self.chance)}; give the share of right "
                "answers that guessing gives, from 0 to below 1"
            )
        names = [hypothesis.name for hypothesis in self.hypotheses]
        if twice := [name for number, name in enumerate(names) if name in names[:number]]:
            raise InputError(
                f"task {self.name!r} has two hypotheses called {twice[0]!r}; rename one"
            )
        known = {hypothesis.short for hypothesis in self.hypotheses if hypothesis.short}
        for prediction in self.predictions:
            self.check(prediction)
            for group in groups([prediction]):
                if group not in known:
                    raise InputError(
                        f"task {self.name!r}: prediction {prediction.name} goes through or past "
                        f"the {group}, but no hypothesis has that for its short; add short = "
                        f"{group!r} to one"
                    )

    def _check_questions(self):
        """Raise InputError unless every slot has words, and every template has a question for each
        condition that has its own."""
        own_questions = {
            name: about.question for name, about in self.conditions.items() if about.question
        }
        for name, template in {
            PLAIN: Template(self.question, own_questions),
            **self.templates,
        }.items():
            for text in (template.question, *template.questions.values()):
                for slot in _SLOT.findall(text):
                    self._has(slot, self.slots, f"the question {shortened(text)}")
            for condition in template.questions:
                self._has(condition, self.conditions, f"template {name!r}")
            if missing := [
                condition for condition in own_questions if condition not in template.questions
            ]:
                raise InputError(
                    f"task {self.name!r}: template {name!r} has no question for condition "
                    f"{missing[0]!r}, which asks another than the others; add "
                    f"questions.{missing[0]}"
                )
            if len(template.words) not in (0, 2):
                raise InputError(
                    f"task {self.name!r}: template {name!r} has {len(template.words)} words; give "
                    "the two that say that an answer is right and that it is not, such as ['yes', "
                    "'no'], or none"
                )
        if not self.questions:
            raise InputError(
                f"task {self.name!r}: the slots of its question have no words that differ; give "
                "each slot more of them"
            )

    def _has(self, name, there, where):
        if name not in there:
            raise InputError(
                f"task {self.name!r}: {where} names {shortened(name)}, which it does not have; use "
                f"one of {', '.join(map(str, there)) or '(none)'}"
            )

    def check(self, prediction: Prediction) -> None:
        """Raise InputError unless the task has the roles and conditions that a prediction names."""
        for claim in about_words([prediction]):
            self._has(claim.role, self.roles, f"prediction {prediction.name}")
        for condition in pictures([prediction]):
            self._has(condition, self.conditions, f"prediction {prediction.name}")
        if prediction.varied:
            self._has(prediction.varied, self.roles, f"varied of prediction {prediction.name}")

    @property
    def right(self) -> str:
        """The role of the right answer for the clean picture."""
        right = self.conditions["clean"].right
        if right is None:
            raise InputError(
                f"task {self.name!r} has no right answer for 'clean'; say which role it is"
            )
        return right

    @property
    def questions(self) -> tuple[str, ...]:
        """The question with its slots filled, in all ways that use no word twice.

        Examples:
            >>> len(rgb.tasks()["relation"].questions), rgb.tasks()["binding"].questions[0]
            (12, 'Which color is the square? Answer with one word')
        """
        slots = list(dict.fromkeys(_SLOT.findall(self.question)))
        ways = product(*(self.slots[slot] for slot in slots))
        return tuple(
            fill(self.question, dict(zip(slots, words)))
            for words in ways
            if len(set(words)) == len(words)
        )

    def asked_by(self, template: str) -> "Task":
        """The task with a template's questions; the task itself for "plain".

        Raises:
            InputError: the task has no such template.

        Examples:
            >>> rgb.tasks()["counting"].asked_by("yes or no").question
            'Is the number of dots {answer}? Answer yes or no'
        """
        if template == PLAIN:
            return self
        self._has(template, [PLAIN, *self.templates], "template")
        chosen = self.templates[template]
        conditions = {
            name: replace(about, question=chosen.questions.get(name, ""))
            for name, about in self.conditions.items()
        }
        return replace(self, question=chosen.question, conditions=conditions)

    @property
    def drawn(self) -> dict[str, Role]:
        """The roles whose words differ from trial to trial."""
        return {name: role for name, role in self.roles.items() if role.word is None}

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        """All predictions to test, each once: those of the hypotheses and their rivals, then the
        checks."""
        return merged([*(hypothesis.tested for hypothesis in self.hypotheses), self.checks])

    @property
    def receivers(self) -> tuple[Hypothesis, ...]:
        """The hypotheses with heads that a prediction goes through or past; else `carriers`."""
        named = groups(self.predictions)
        found = tuple(hypothesis for hypothesis in self.hypotheses if hypothesis.short in named)
        return found or self.carriers

    @property
    def senders(self) -> tuple[Hypothesis, ...]:
        """The hypotheses with claims about effects through or past other heads; else `carriers`."""
        found = tuple(hypothesis for hypothesis in self.hypotheses if hypothesis.groups)
        return found or self.carriers

    @property
    def carriers(self) -> tuple[Hypothesis, ...]:
        """The hypotheses that make up the circuit, whose heads may work through each other; none
        for a game, or if a prediction goes through or past other heads."""
        if self.is_game or groups(self.predictions):
            return ()
        return tuple(hypothesis for hypothesis in self.hypotheses if hypothesis.in_circuit)

    @property
    def mediated(self) -> tuple[str, ...]:
        """The roles whose words are claimed to move through or past other heads; else the roles in
        the predictions of `carriers`."""
        claims = [claim for claim in about_words(self.predictions) if claim.sweep.of]
        predictions = [prediction for one in self.carriers for prediction in one.predictions]
        return tuple(dict.fromkeys(claim.role for claim in claims or about_words(predictions)))

    @property
    def is_game(self) -> bool:
        """Whether its pictures are drawn from words, so that a model plays it; False if it asks
        about given pictures."""
        return bool(self.vocabulary) and not self.trials

    @property
    def says_of_predictions(self) -> dict[str, str]:
        """Prediction → its description."""
        return {prediction.name: prediction.says for prediction in self.predictions}

    @property
    def targets(self) -> tuple[str, ...]:
        """The target pictures of its panels; without panels, all but the clean one."""
        panels = [target for target, _ in self.panels.values()]
        return tuple(dict.fromkeys(panels or [name for name in self.conditions if name != "clean"]))

    def hypothesis(self, name: str) -> Hypothesis:
        """One of its hypotheses, by name.

        Raises:
            InputError: no hypothesis has the name.
        """
        for hypothesis in self.hypotheses:
            if hypothesis.name == name:
                return hypothesis
        names = ", ".join(hypothesis.name for hypothesis in self.hypotheses) or "none"
        raise InputError(f"task {self.name!r} has no hypothesis {name!r}; it has {names}")

    def prediction(self, name: str) -> Prediction:
        """One of its predictions, by name.

        Raises:
            InputError: no prediction has the name.
        """
        named = {prediction.name: prediction for prediction in self.predictions}
        return named_prediction(name, named, f"task {self.name!r}")

    def with_hypotheses(self, hypotheses: Sequence[Hypothesis]) -> "Task":
        """The task with other hypotheses in place of its own, and without checks. Its own
        hypotheses stay if the others go through or past their heads.

        Raises:
            InputError: a role, condition or group that the task does not have, or a name that
                occurs twice.

        Examples:
            >>> from rgb_circuit.hypothesis import Hypothesis, Prediction
            >>> text = "background up through the extractors: z clean -> erased"
            >>> sends = Prediction.parse("S", text)
            >>> task = rgb.tasks()["rgb"].with_hypotheses([Hypothesis("sender", (sends,))])
            >>> [hypothesis.name for hypothesis in task.hypotheses]
            ['sender', 'color extractor']
        """
        chosen, existing = list(hypotheses), list(self.hypotheses)
        while joining := [one for one in existing if one.short in _unmet(chosen) and one.short]:
            chosen.append(joining[0])
        return replace(self, hypotheses=tuple(chosen), checks=())

    def controls(self, target: str) -> tuple[str, ...]:
        """The drawn roles that neither ``target`` nor the clean picture shows, in the order of the
        roles."""
        shown = {*self.conditions["clean"].shows, *self.conditions[target].shows}
        return tuple(role for role in self.drawn if role not in shown)

    def changed(self, sweep: Sweep) -> str:
        """The picture that a sweep's gap compares with the clean one."""
        return self.with_gap(sweep.source if sweep.target == "clean" else sweep.target)

    def with_gap(self, condition: str) -> str:
        """The condition, or the corrupted one if the condition is no picture or has the same right
        answer as the clean picture."""
        if condition in ARTIFICIAL or self.conditions[condition].right == self.right:
            return self.corrupted
        return condition

    def fixed(self, prediction: Prediction) -> list[str]:
        """The roles in a prediction whose word is the same in all trials."""
        named = dict.fromkeys(claim.role for claim in about_words([prediction]))
        return [role for role in named if role not in self.drawn]

    def written_alone(self, claim: Claim) -> str | None:
        """The one drawn role that the claim's target shows, if the claim is that the word of
        another drawn role stays; else None."""
        shown = [role for role in self.conditions[claim.sweep.target].shows if role in self.drawn]
        stays = not claim.is_effect and claim.role in self.drawn and claim.role not in shown
        return shown[0] if stays and len(shown) == 1 else None

    def with_controls(
        self, trials: Sequence[Trial], words: Iterable[str], prompts: Iterable[str]
    ) -> list[Trial]:
        """The trials, with the vocabulary's other words as further answers, called "unshown 0",
        "unshown 1", …: the mean of many words varies less than one word. A trial with another
        prompt or other words stays as it is.

        Args:
            words: those of the vocabulary that the model can answer with.
            prompts: those in which it answers with these words.
        """
        words, prompts, extended = list(words), set(prompts), []
        for trial in trials:
            drawn_words = [trial.answers.get(role) for role in self.drawn]
            if trial.prompt in prompts and set(drawn_words) <= set(words):
                accepted = {word for role in self.drawn for word in trial.words[role]}
                unshown = [word for word in words if word not in accepted]
                further = {f"unshown {number}": word for number, word in enumerate(unshown)}
                trial = replace(trial, answers={**trial.answers, **further})
            extended.append(trial)
        return extended

    def plain(self) -> dict[str, Any]:
        """The task as JSON and TOML can hold it: without ``draw`` and without default values.

        Each prediction occurs once, and hypotheses name theirs.
        """
        table: dict[str, Any] = {"name": self.name}
        for name in ("says", "asks", "question", "corrupted", "place", "trials"):
            value = getattr(self, name)
            if value or name in ("question", "corrupted"):
                table[name] = value
        if self.chance is not None:
            table["chance"] = self.chance
        if self.second_question is not None:
            table["second_question"] = list(self.second_question)
        if self.checks:
            table["checks"] = [prediction.name for prediction in self.checks]
        table["roles"] = {name: filled(role) for name, role in self.roles.items()}
        table["conditions"] = {
            name: filled(condition) for name, condition in self.conditions.items()
        }
        if self.vocabulary:
            drawn_with = {word: listed(value) for word, value in self.vocabulary.items()}
            # TOML has no null.
            table["vocabulary"] = drawn_with if any(drawn_with.values()) else list(drawn_with)
        if self.slots:
            table["slots"] = {slot: list(words) for slot, words in self.slots.items()}
        if self.templates:
            table["templates"] = {
                name: filled(template) for name, template in self.templates.items()
            }
        if self.panels:
            table["panels"] = {panel: list(where) for panel, where in self.panels.items()}
        if self.predictions:
            table["predictions"] = {
                prediction.name: plain_prediction(prediction) for prediction in self.predictions
            }
        if self.hypotheses:
            table["hypotheses"] = {
                hypothesis.name: plain_hypothesis(hypothesis) for hypothesis in self.hypotheses
            }
        return table

    @classmethod
    def of_plain(cls, table: Mapping[str, Any], where: str = "the task") -> "Task":
        """The task from a table that `plain` made, or that a file holds.

        Args:
            where: the table's source, for messages.

        Raises:
            InputError: an unknown or missing key, or a value of the wrong type; the message names
                the key.
        """
        table = known_keys(
            table,
            where,
            needed=("name", "question", "corrupted", "roles", "conditions"),
            also=_TASK,
        )
        hypotheses, shared = hypotheses_of(table, where)
        given = {
            name: typed(table[name], str, f"{where}: {name}") for name in _TEXTS if name in table
        }
        roles = {
            name: Role(word)
            if isinstance(word, str)
            else made(Role, word, f"{where}: roles.{name}")
            for name, word in typed(table["roles"], dict, f"{where}: roles").items()
        }
        conditions = {
            name: made(Condition, condition, f"{where}: conditions.{name}")
            for name, condition in typed(table["conditions"], dict, f"{where}: conditions").items()
        }
        if "chance" in table:
            given["chance"] = typed(table["chance"], float, f"{where}: chance")
        second = table.get("second_question")
        if second is not None:
            second = strings(second, f"{where}: second_question")
            if len(second) != 2:
                raise InputError(
                    f"{where}: second_question has {len(second)} pieces; give the question and the "
                    "role of its right answer"
                )
        words = table.get("vocabulary", {})
        if not isinstance(words, (list, Mapping)):
            raise InputError(
                f"{where}: vocabulary is {shortened(words)}; give a list of words, or a table"
            )
        panels = typed(table.get("panels", {}), dict, f"{where}: panels")
        slots = typed(table.get("slots", {}), dict, f"{where}: slots")
        templates = typed(table.get("templates", {}), dict, f"{where}: templates")
        try:
            return cls(
                **given,
                roles=roles,
                conditions=conditions,
                second_question=second,
                vocabulary=dict.fromkeys(words)
                if isinstance(words, list)
                else {
                    word: tuple(value) if isinstance(value, list) else value
                    for word, value in words.items()
                },
                hypotheses=hypotheses,
                checks=tuple(
                    named_prediction(name, shared, f"{where}: checks")
                    for name in strings(table.get("checks", []), "checks")
                ),
                slots={
                    name: strings(words, f"{where}: slots.{name}") for name, words in slots.items()
                },
                templates={
                    name: made(
                        Template, template, f"{where}: templates.{name}", needed=("question",)
                    )
                    for name, template in templates.items()
                },
                panels={
                    name: strings(pair, f"{where}: panels.{name}") for name, pair in panels.items()
                },
            )
        except InputError as error:
            raise InputError(f"{where}: {error}") from error

    @classmethod
    def of_trials(cls, trials: Sequence[Trial]) -> "Task":
        """A task for trials without one: it has their roles and conditions, and each picture shows
        its right answer. If some picture has another right answer than the clean one, the same two
        roles in all trials, the task has the hypotheses of pairs (`rgb_circuit.hypothesis.pairs`);
        if that is the clean picture with another question, this is the second question."""
        first = trials[0]
        conditions = {
            name: Condition(right=right, shows=() if right is None else (right,))
            for name in ("clean", *(name for name in first.images if name != "clean"))
            for right in [first.expected.get(name)]
        }
        right = conditions["clean"].right
        others = [name for name in conditions if name != "clean"]
        changed = [name for name in others if conditions[name].right not in (None, right)]
        corrupted = (changed or others or ["clean"])[0]
        answered = {
            (trial.expected.get("clean"), trial.expected.get(corrupted)) for trial in trials
        }
        (clean_role, corrupted_role), *further = answered
        return cls(
            name="own pictures",
            says="pictures of one's own",
            question="",
            roles={role: Role() for role in first.answers},
            conditions=conditions,
            corrupted=corrupted,
            second_question=_asked_again(trials, [] if further else changed),
            hypotheses=() if further else pairs.hypotheses(clean_role, corrupted_role, corrupted),
        )


def _asked_again(trials, conditions):
    """The first of some conditions that asks another question about the clean picture in every
    trial, with its right answer's role; None if there is none."""

    def asks(trial, condition):
        sources = trial.sources
        return (
            trial.asked(condition) != trial.asked("clean")
            and picture_hash(sources[condition]) == picture_hash(sources["clean"])
            and trial.expected.get(condition) == trials[0].expected[condition]
        )

    found = (name for name in conditions if all(asks(trial, name) for trial in trials))
    return next(((name, trials[0].expected[name]) for name in found), None)


def _unmet(hypotheses):
    """The groups that some hypotheses go through or past, but that none of them defines."""
    there = {hypothesis.short for hypothesis in hypotheses}
    return {group for hypothesis in hypotheses for group in hypothesis.groups} - there


def fill(question: str, words: Mapping[str, str]) -> str:
    """A question with a word in each of its slots.

    Examples:
        >>> fill("Which color is the {shape}?", {"shape": "square"})
        'Which color is the square?'
    """
    return _SLOT.sub(lambda slot: words[slot[1]], question)


def pictures_of(sweep: Sweep) -> list[str]:
    """The conditions of a sweep, without artificial sources."""
    return [condition for condition in (sweep.source, sweep.target) if condition not in ARTIFICIAL]


def pictures(predictions: Iterable[Prediction]) -> list[str]:
    """The conditions of some predictions, each once."""
    swept = [name for claim in about_words(predictions) for name in pictures_of(claim.sweep)]
    return list(dict.fromkeys([*swept, *(look.condition for look in about_attention(predictions))]))


_TEXTS = ("name", "says", "asks", "question", "corrupted", "place", "trials")
_TASK = (
    "says",
    "asks",
    "place",
    "trials",
    "chance",
    "second_question",
    "vocabulary",
    "slots",
    "templates",
    "hypotheses",
    "predictions",
    "checks",
    "panels",
)
