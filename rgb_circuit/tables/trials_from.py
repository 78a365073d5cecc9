"""Trials from the rows of users' own tables: pictures, a question, words.

There are three steps, the first of which needs no model:

1. Read the rows, and look at every picture once (`Sheet.read`). Texts are columns or format strings
   (`rgb_circuit.tables.row_texts`); pictures stay in their files, or encoded
   (`rgb_circuit.tables.picture_cells`); a question is cut out of another model's conversation
   (`rgb_circuit.tables.foreign_prompts`).
2. Put the questions into the model's own conversation, and of several words for one role take those
   that are one token.
3. Check, without a forward, that the model can be asked and read this way.

Rows that cannot be used are refused by name, or left out with the reason (``strict=False``).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from .. import conversation
from ..arguments import check_wrapped
from ..bars import tqdm
from ..conversation.answers import FORMS, written
from ..errors import InputError
from ..files.table_text import in_one_order, shortened
from ..pictures import FITS, FittedPicture, Pictures, Source, picture_hash
from ..prompts.asking import check_readable
from ..trial import Trial
from ..warning import warn
from .box_cells import as_coco
from .foreign_prompts import check_asks, question_in
from .picture_cells import picture_of
from .row_texts import RowCells, RowText, entries, plain, shuffled
from .rows import Rows, is_missing

if TYPE_CHECKING:
    from ..vlm import Vlm

# Said of a row whose text was changed.
_CUT = "question cut out of a prompt"
# How similar (`difflib`) a word must be to a column's name for the column to be meant; words of
# fewer letters are similar by chance.
ALIKE, LONG = 0.8, 5


class TrialsFrom(list[Trial]):
    """Trials from rows, and the outcome for every row.

    Attributes:
        rows: a row per row of the table: ``row`` (its number, from 0), ``trial`` (its name, or
            missing), ``used``, and ``says``: why it is left out, or what was chosen or cut.
    """

    def __init__(self, trials: Sequence[Trial], rows: pd.DataFrame):
        super().__init__(trials)
        self.rows = rows

    @property
    def left_out(self) -> pd.DataFrame:
        """The rows that are left out: ``row, trial, says``."""
        return self.rows.loc[~self.rows["used"], ["row", "trial", "says"]].reset_index(drop=True)


def trials_from(
    rows: object,
    model: Vlm,
    *,
    name: str,
    question: str,
    images: Mapping[str, str],
    answers: Mapping[str, str],
    expected: Mapping[str, str] | None = None,
    questions: Mapping[str, str] | None = None,
    cluster: str | None = None,
    strata: Sequence[str] | Mapping[str, str] = (),
    boxes: Mapping[str, Mapping[str, str]] | None = None,
    folder: str | Path | None = None,
    strict: bool = True,
    fit: str | None = None,
    progress: bool = True,
) -> TrialsFrom:
    """Make a trial from each row of a table.

    A text per row is given as the name of a column, a format string such as ``"What color is this
    {object}?"`` (`rgb_circuit.tables.row_texts`; it can write multiple choice too), or a constant
    for all rows.

    Args:
        rows: a DataFrame, a ``datasets.Dataset``, a list of dictionaries, or the path of a CSV,
            TSV, JSON, JSONL or Parquet file (`rgb_circuit.tables.rows`).
        name: of each trial, all different; ``{row}`` is the row's number.
        question: about the picture. If it is a whole prompt of another model's conversation, the
            question is cut out.
        images: condition → column of pictures (paths, bytes, ``{bytes, path}``, arrays, Pillow), or
            a path; ``"clean"`` must be among them.
        answers: role → word. A cell may hold several accepted words, as a list or a list written as
            text. All those that are one token for this model are taken (`Trial.also`); if none is,
            the first.
        expected: condition → role of its right answer, or a column of roles; other conditions are
            not scored.
        questions: condition → its own question, if it differs.
        cluster: what rows share, such as a scene; trials of one cluster are one observation.
        strata: columns of fixed factors, such as a category; or factor → text.
        boxes: condition → name → column of (left, top, right, bottom) in pixels.
        folder: the folder that paths are relative to; by default the file's own, or the working
            directory.
        strict: refuse the first row that cannot be used; otherwise such rows are left out.
        fit: make all pictures squares of the model's own size: ``"pad"`` (whole, between grey bars)
            or ``"resize"`` (stretched).
        progress: show a bar when it takes longer than two seconds.

    Returns:
        The trials, a list whose ``rows`` is a frame that says for each row whether it is used, and
        if not, why.

    Raises:
        InputError: a table, column or argument that cannot be used, before any forward; with
            ``strict`` also a row, otherwise only if no row is left.

    Examples:
        >>> from PIL import Image
        >>> pictures = {color: Image.new("RGB", (24, 24), color) for color in ("red", "green")}
        >>> words = {"one": pictures["red"], "is": "red", "was": "green"}
        >>> rows = [{"id": 1, "two": pictures["green"], **words}, {"id": 2, "two": None, **words}]
        >>> made = rgb.trials_from(
        ...     rows, model, name="pair {id}", question="Which color is the background?",
        ...     images={"clean": "one", "changed": "two"}, answers={"right": "is", "other": "was"},
        ...     expected={"clean": "right", "changed": "other"}, strict=False,
        ... )
        >>> made
        [Trial('pair 1': clean, changed of 24 × 24 px)]
        >>> made.left_out.values.tolist()
        [[1, 'pair 2', "picture 'changed': there is no picture; fill the cell"]]
    """
    check_wrapped(model)
    columns = Columns(
        name, question, images, answers, expected or {}, questions or {}, cluster, strata,
        boxes or {}, folder, strict, fit,
    )  # fmt: skip
    return Sheet.read(rows, columns, progress=progress).trials(model, progress=progress)


@dataclass(frozen=True)
class Columns:
    """The columns and texts that make a trial: the arguments of `trials_from`, checked as far as
    possible without a table."""

    name: str
    question: str
    images: Mapping[str, str]
    answers: Mapping[str, str]
    expected: Mapping[str, str] = field(default_factory=dict)
    questions: Mapping[str, str] = field(default_factory=dict)
    cluster: str | None = None
    strata: Sequence[str] | Mapping[str, str] = ()
    boxes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    folder: str | Path | None = None
    strict: bool = True
    fit: str | None = None

    def __post_init__(self):
        for what, example in (("images", "clean"), ("answers", "right"), ("expected", "clean"),
                              ("questions", "clean"), ("boxes", "clean")):  # fmt: skip
            given = getattr(self, what)
            if not isinstance(given, Mapping):
                raise InputError(
                    f"{what} is {shortened(given)}; give a mapping such as {{{example!r}: …}}"
                )
        if "clean" not in self.images:
            raise InputError(
                "images lacks 'clean', the picture that the others are held against; add it"
            )
        if not self.answers:
            raise InputError(
                "answers is empty; give at least one role and its word, such as {'right': 'yes'}"
            )
        for what in ("expected", "questions", "boxes"):
            for condition in getattr(self, what):
                if condition not in self.images:
                    raise InputError(
                        f"{what} names {condition!r}, which images lacks; use one of "
                        f"{', '.join(self.images)}"
                    )
        if self.fit is not None and self.fit not in FITS:
            raise InputError(
                f"fit is {shortened(self.fit)}; use {' or '.join(map(repr, FITS))}, or leave it out"
            )
        if self.fit and self.boxes:
            raise InputError(
                "boxes count pixels of the pictures as they are; leave out fit, or the boxes"
            )
        if isinstance(self.strata, str):
            raise InputError(
                f"strata is {self.strata!r}; give a list of columns, such as [{self.strata!r}]"
            )

    @property
    def factors(self) -> Mapping[str, str]:
        """Factor → its text."""
        named = (
            self.strata
            if isinstance(self.strata, Mapping)
            else {name: name for name in self.strata}
        )
        return dict(named)


@dataclass(frozen=True)
class Texts:
    """`Columns` over the columns of one table."""

    name: RowText
    question: RowText
    images: dict[str, RowText]
    answers: dict[str, RowText]
    expected: dict[str, RowText]
    questions: dict[str, RowText]
    cluster: RowText | None
    strata: dict[str, RowText]
    boxes: dict[str, dict[str, RowText]]

    @classmethod
    def of(cls, given: Columns, there: Sequence[str]) -> Texts:
        """Parse the texts; raises InputError if one names no column but should."""

        def text(value, what):
            return RowText.of(value, there, what)

        def texts(mapping, what):
            return {name: text(value, f"{what}[{name!r}]") for name, value in mapping.items()}

        made = cls(
            text(given.name, "name"),
            text(given.question, "question"),
            texts(given.images, "images"),
            texts(given.answers, "answers"),
            # A role stays a role, even if a column has its name.
            {
                condition: RowText(role, "")
                if role in given.answers
                else text(role, f"expected[{condition!r}]")
                for condition, role in given.expected.items()
            },
            texts(given.questions, "questions"),
            None if given.cluster is None else text(given.cluster, "cluster"),
            texts(given.factors, "strata"),
            {name: texts(boxes, f"boxes[{name!r}]") for name, boxes in given.boxes.items()},
        )
        _check_columns(made, given, there)
        return made

    @property
    def all(self) -> list[RowText]:
        """All texts."""
        many = (
            self.images,
            self.answers,
            self.expected,
            self.questions,
            self.strata,
            *self.boxes.values(),
        )
        single = [self.name, self.question, *([] if self.cluster is None else [self.cluster])]
        return [*single, *(text for some in many for text in some.values())]


def _check_columns(texts, given, there):
    """Refuse constant texts where rows must differ: usually a misspelt column."""
    must = {"name": texts.name, "cluster": texts.cluster}
    must |= {f"strata[{factor!r}]": text for factor, text in texts.strata.items()}
    must |= {
        f"boxes[{condition!r}][{name!r}]": text
        for condition, named in texts.boxes.items()
        for name, text in named.items()
    }
    # A path is no column, and a question has more than one word.
    must |= {
        f"images[{name!r}]": text for name, text in texts.images.items() if "." not in text.text
    }
    questions = {"question": texts.question}
    questions |= {f"questions[{name!r}]": text for name, text in texts.questions.items()}
    must |= {what: text for what, text in questions.items() if len(text.text.split()) == 1}
    for what, text in must.items():
        if text is not None and text.is_constant:
            raise InputError(
                f"{what} is {text.text!r}, which is no column; there are "
                f"{', '.join(map(repr, there))}"
            )
    names = [name.casefold() for name in there]
    for role, text in texts.answers.items():
        if not text.is_constant:
            continue
        word = text.text.casefold()
        if word in names or "_" in word:
            raise InputError(
                f"answers[{role!r}] is {text.text!r}, which is no column; there are "
                f"{', '.join(map(repr, there))}; a word that is the same for all rows must not "
                "look like one of them"
            )
        # It may still be a word, like orange next to a column range.
        if len(word) >= LONG and (alike := get_close_matches(word, names, 1, ALIKE)):
            warn(
                f"answers[{role!r}] is {text.text!r}, the same word for all rows; if the column "
                f"{there[names.index(alike[0])]!r} is meant, write its name"
            )
    for condition, text in texts.expected.items():
        if text.is_constant and text.text not in given.answers:
            raise InputError(
                f"expected[{condition!r}] is {text.text!r}, which is no role and no column; the "
                f"roles are {', '.join(given.answers)}"
            )


@dataclass(frozen=True)
class Draft:
    """A row whose pictures were read, before a model.

    Attributes:
        refused: why it cannot be used; empty if it can.
        words: role → accepted words.
        says: what was cut.
    """

    number: int
    name: str | None = None
    refused: str = ""
    question: str = ""
    questions: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)
    words: Mapping[str, Sequence[str]] = field(default_factory=dict)
    expected: Mapping[str, str] = field(default_factory=dict)
    cluster: str = ""
    strata: Mapping[str, str] = field(default_factory=dict)
    boxes: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    says: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """A table whose rows and pictures were read; with a model its rows become trials.

    Attributes:
        called: the table's name in messages.
        columns: as they were given.
        drafts: of the rows.
    """

    called: str
    columns: Columns
    drafts: tuple[Draft, ...]

    @classmethod
    def read(cls, rows: object, columns: Columns, *, progress: bool = True) -> Sheet:
        """See `trials_from`."""
        table = Rows.of(rows)
        texts = Texts.of(columns, table.columns)
        names = list(
            dict.fromkeys(
                name for text in texts.all for name in text.columns if name in table.columns
            )
        )
        cells = table.read(names)
        folder = Path(table.folder or "." if columns.folder is None else columns.folder).absolute()
        n = len(next(iter(cells.values()), ()))
        if not n:
            raise InputError(f"{table.called} has no rows; give a row per trial")
        drafts, known, names_before, orders = [], {}, {}, {}
        with tqdm(range(n), desc="reading rows", unit="row", delay=2, disable=not progress) as bar:
            for number in bar:
                row = RowCells(number, {name: cells[name][number] for name in names})
                draft = _draft(row, texts, folder, known)
                words = {role: in_one_order(own, orders) for role, own in draft.words.items()}
                draft = replace(draft, words=words)
                if (
                    not draft.refused
                    and (twin := names_before.setdefault(draft.name, number)) != number
                ):
                    says = (
                        f"row {twin} is named {draft.name!r} too; make names differ, such as "
                        f"by {{row}}"
                    )
                    draft = replace(draft, refused=says)
                if draft.refused and columns.strict:
                    raise _refusal(table.called, draft)
                drafts.append(draft)
        _check_corners(table.called, drafts)
        return cls(table.called, columns, tuple(drafts))

    def trials(
        self,
        model: Vlm | _NoModel,
        *,
        words: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
        progress: bool = True,
    ) -> TrialsFrom:
        """The rows as trials for a model.

        Args:
            words: trial → role → words that were taken before. With them the model is not asked
                anything, so the model as a manifest describes it is enough.
        """
        used, rows, fitted, readable, alike = [], [], {}, set(), []
        chosen = self.drafts if words is None else [one for one in self.drafts if one.name in words]
        with tqdm(chosen, desc="reading answers", unit="row", delay=2, disable=not progress) as bar:
            for draft in bar:
                try:
                    if draft.refused:
                        raise InputError(draft.refused)
                    with warnings.catch_warnings(record=True) as told:
                        warnings.simplefilter("always")
                        trial, says = self._trial(model, draft, fitted, words)
                    says += (messages := [str(one.message) for one in told])
                    alike += messages[:1]
                    if words is None:
                        _check_readable(model, trial, readable)
                    used.append(trial)
                    rows.append((draft.number, draft.name, True, "; ".join(says)))
                except InputError as error:
                    draft = replace(draft, refused=str(error))
                    if self.columns.strict:
                        raise _refusal(self.called, draft) from error
                    rows.append((draft.number, draft.name, False, draft.refused))
        if alike:
            warn(f"{alike[0]} (so in {len(alike)} of {len(used)} trials)")
        if not used:
            number, _, _, says = (
                rows[0] if rows else (0, "", False, "its trials are not those of the run")
            )
            raise InputError(
                f"of {self.called} none of {len(self.drafts)} rows can be used; of row {number}: "
                f"{says}"
            )
        return TrialsFrom(used, pd.DataFrame(rows, columns=["row", "trial", "used", "says"]))

    def bare(self) -> TrialsFrom:
        """The rows as trials in LLaVA-1.5's conversation, each role with its first word, for checks
        before there is a model."""
        words = {
            draft.name: {role: several[:1] for role, several in draft.words.items()}
            for draft in self.drafts
            if draft.name is not None and not draft.refused
        }
        return replace(self, columns=replace(self.columns, fit=None)).trials(
            _NoModel(), words=words
        )

    def _trial(self, model, draft, fitted, words):
        """The trial of a draft, and notes about it."""
        says = list(draft.says)
        prompt = model.prompt(draft.question)
        prompts = {condition: model.prompt(text) for condition, text in draft.questions.items()}
        answers = {}
        for role, several in draft.words.items():
            taken = words[draft.name][role] if words else _taken(model, prompt, several)
            answers[role] = taken
            if len(several) > 1:
                of = "" if len(taken) == len(several) else f", of {', '.join(map(repr, several))}"
                says.append(f"{role} is read as {' or '.join(map(repr, taken))}{of}")
        sources = draft.sources
        if how := self.columns.fit:
            sources = {
                condition: _fitted(source, model.picture_px, how, fitted)
                for condition, source in sources.items()
            }
        trial = Trial(
            draft.name or "",
            prompt,
            Pictures(sources),
            answers,
            expected=draft.expected,
            prompts={condition: text for condition, text in prompts.items() if text != prompt},
            cluster=draft.cluster,
            strata=draft.strata,
            boxes=draft.boxes,
        )
        return trial, says


class _NoModel:
    """Asks in LLaVA-1.5's conversation."""

    prompt = staticmethod(conversation.prompt)


def _check_corners(called, drafts):
    """Refuse boxes that are a corner and a size: read as corners, some would be other places."""
    boxes: dict[tuple[str, str], list] = {}
    for draft in drafts:
        for condition, named in draft.boxes.items():
            for name, box in named.items():
                size = draft.sources[condition].size
                boxes.setdefault((condition, name), []).append((box, size))
    for (condition, name), found in boxes.items():
        if as_coco(found):
            raise InputError(
                f"boxes[{condition!r}][{name!r}] of {called} holds (left, top, width, height), as "
                "COCO writes boxes; give (left, top, right, bottom): left + width, top + height"
            )


def _refusal(called, draft):
    return InputError(
        f"{called}, row {draft.number} (from 0): {draft.refused}; with strict=False such rows are "
        "left out"
    )


def _draft(row: RowCells, texts: Texts, folder: Path, known: dict[object, Source]) -> Draft:
    """Put together a row's texts and read its pictures; if it cannot be used, with the reason."""
    name = None
    try:
        name = texts.name.said(row)
        if options := next(
            (text.options for text in (texts.question, *texts.questions.values()) if text.options),
            "",
        ):
            row = shuffled(row, options)
        question, cut = _question(texts.question, row)
        questions = {condition: _question(text, row) for condition, text in texts.questions.items()}
        words = {
            role: _about(f"answer {role!r}", lambda: _words(text, row))
            for role, text in texts.answers.items()
        }
        _check_apart(words)
        _check_letters(texts.answers, words, row)
        return Draft(
            row.number,
            name,
            question=question,
            questions={condition: text for condition, (text, _) in questions.items()},
            sources={
                condition: _about(
                    f"picture {condition!r}", lambda: picture_of(text.cell(row), folder, known)
                )
                for condition, text in texts.images.items()
            },
            words=words,
            expected=_expected(texts, row),
            cluster="" if texts.cluster is None else texts.cluster.said(row),
            strata={factor: text.said(row) for factor, text in texts.strata.items()},
            boxes={
                condition: {box: entries(text.cell(row)) for box, text in named.items()}
                for condition, named in texts.boxes.items()
            },
            says=(_CUT,) if cut or any(cut for _, cut in questions.values()) else (),
        )
    except InputError as error:
        return Draft(row.number, name, refused=str(error))


def _about(what: str, made: Callable[[], Any]) -> Any:
    try:
        return made()
    except InputError as error:
        raise InputError(f"{what}: {error}") from error


def _question(text, row):
    """The question of a row, and whether anything around it was cut off."""
    question, cut = question_in(text.said(row))
    # A format string was written as a question, so only a column is checked.
    if text.column:
        check_asks(question, text.column)
    return question, cut


def _check_letters(answers, words, row):
    """Refuse the table's own letters if the options are written in another order."""
    for role, text in answers.items():
        if any(row.is_letter(word) for word in words[role]) and not text.gives_letter:
            said = text.column or "answer"
            raise InputError(
                f"answer {role!r} is the letter {words[role][0]!r} of the table, whose options "
                f"are written in another order; write {{{said}:letter}}, the letter that its "
                "option got"
            )


def _words(text, row):
    """The words of a cell, without repeats."""
    if not text.column:
        return (text.said(row),)
    cell = text.cell(row)
    listed = entries(cell)
    places = (
        f"{text.column}[{place}]" if cell is not word else text.column
        for place, word in enumerate(listed)
    )
    words = tuple(dict.fromkeys(map(plain, listed, places)))
    if not words:
        raise InputError(f"column {text.column!r} holds a list without a word; fill the cell")
    return words


def _check_apart(words):
    """Raise InputError if a list gives a word to one role that another role has too."""
    first: dict[str, str] = {}
    several = any(len(own) > 1 for own in words.values())
    for role, word in ((role, word) for role in words if several for word in words[role]):
        if (other := first.setdefault(word.casefold(), role)) != role:
            raise InputError(
                f"{word!r} is accepted for {other!r} and for {role!r}, so that it tells nothing; "
                "take it out of one of their cells"
            )


def _expected(texts, row):
    """Condition → role; conditions with an empty cell are not scored."""
    roles = {}
    for condition, text in texts.expected.items():
        if text.column and is_missing(text.cell(row)):
            continue
        roles[condition] = text.said(row)
    return roles


def _taken(model, prompt, words):
    """The words that are one token for the model after a prompt; if there are none, the first word.
    Other words are left out, since their first token may begin many words."""
    tokenizer = model.processor.tokenizer

    def whole(word):
        return any(
            len(written(tokenizer, prompt, word, form, model.sayable) or ()) == 1 for form in FORMS
        )

    return words if len(words) == 1 else tuple(filter(whole, words)) or words[:1]


def _check_readable(model, trial, readable):
    """Raise InputError if an answer cannot be read; ``readable``: answers checked before."""
    for asked in dict.fromkeys(map(trial.asked, trial.images)):
        if (key := (asked, *trial.words.items())) not in readable:
            check_readable(model, asked, trial.words)
            readable.add(key)


def _fitted(source, side, how, known):
    """A source made square; ``known``: hash → square picture made before."""
    pixels = picture_hash(source)
    if pixels not in known:
        known[pixels] = FittedPicture.read(source, side, how)
    return known[pixels]
