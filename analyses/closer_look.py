"""A closer look at the heads that a run found: what its report shows beyond the sweep and the role table.

1. The first pictures, as the model sees them, and where the found heads look on them.
2. Each panel's effects with intervals.
3. Composition: what the heads that localize or write the background do through the color extractors
   (`composition`).
4. The circuit of the extractors and localizers, and faithfulness over circuit size (`circuit`).
5. Which heads carry the question, and which of its words they look at (`task_reading`).

Roles are told from all trials. For the curve heads are ranked on the first half of them, and 3 and 4 are
measured on the second half. What cannot be measured is left out, and the reason is kept.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.as_seen import as_seen
from rgb_circuit.attention import attention_from_end, over_picture
from rgb_circuit.errors import CannotWrite
from rgb_circuit.jobs import gathering
from rgb_circuit.keeping import call_name, kept, trial_name
from rgb_circuit.panels import panels, strongest
from rgb_circuit.results import write_frame
from rgb_circuit.rgb_game import ODD_QUESTION
from rgb_circuit.statistics import bootstrap_interval

from . import circuit, composition, roles, task_reading

Head = tuple[int, int]

# How many trials are shown, how many pictures of each with attention, and how many heads.
TRIALS, PICTURES, HEADS = 3, 3, 8
# With more, `task_reading` at all words costs more than everything else: 108 forwards a trial with 1,024,
# where a sweep takes 4.
QUESTION_HEADS = 256


def write(
    model: rgb.Vlm,
    trials: Sequence[rgb.Trial],
    effects: pd.DataFrame,
    which: Mapping[str, tuple[str, str]],
    evidence: pd.DataFrame | rgb.InputError,
    folder: Path,
    *,
    progress: bool = True,
) -> list[Path]:
    """Measure and write, each as NAME.parquet, what is listed below; of what cannot be measured ``left_out``
    says why.

    Args:
        effects: the run's `rgb_circuit.patch_heads`.
        which: panel → (target condition, role whose logit is read).
        evidence: from `analyses.roles.evidence`, or what it raised.
        folder: the run's.
        progress: show bars when something takes longer than two seconds.

    Writes:
        ``stimuli`` (`stimuli`), ``panels`` (`panel_effects`), ``attention`` (`attention`), ``composition``
        and ``mediation`` (as `analyses.composition`), ``circuit`` and ``curve`` (as `analyses.circuit`),
        ``task_reading`` (as `analyses.task_reading`), ``question_attention`` (as its ``reading``, from [end],
        of the heads that carry the question), and ``left_out``: ``frame, reason``, with a row for ``roles``
        where there is no evidence.

    Returns:
        The paths of what was written.
    """
    trials = list(trials)
    first = {"trials": [trial_name(trial) for trial in trials[:TRIALS]]}
    pictures = kept(call_name("stimuli", first), "all", lambda: stimuli(model, trials[:TRIALS]))
    written = [
        write_frame(pictures, folder, "stimuli"),
        write_frame(panel_effects(effects, which), folder, "panels"),
    ]
    left_out, by_role, shown = {}, {}, []
    if isinstance(evidence, rgb.InputError):
        left_out["roles"] = str(evidence)
    else:
        table = roles.table(evidence)
        named = table[table["role"] != "none"]
        chosen = (
            roles.closest(evidence) if named.empty else named.loc[named["score"].abs().nlargest(HEADS).index]
        )
        shown = [(int(layer), int(head)) for layer, head in chosen[["layer", "head"]].itertuples(index=False)]
        by_role = {role: roles.heads(table, role) for role in roles.HYPOTHESES}

    if not shown:
        shown = [tuple(map(int, name.split("."))) for name in strongest(panels(effects, which), 3).index]

    def looks():
        if (reasons := pictures["unseen"].dropna()).size:
            raise rgb.InputError(reasons.iloc[0])
        call = call_name("attention", {**first, "heads": shown})
        return kept(call, "all", lambda: attention(model, trials[:TRIALS], shown, progress=progress))

    finding, testing = trials[: len(trials) // 2], trials[len(trials) // 2 :]
    ends = dict(target=_corrupted(trials[0]), progress=progress)
    extractors, localizers = by_role.get("color extractor", []), by_role.get("POI localization", [])
    senders = sorted({*localizers, *by_role.get("place relay", []), *by_role.get("background writer", [])})

    def through(analysis):
        if not (senders and extractors):
            raise rgb.InputError(
                "composition needs a color extractor and a head that localizes or writes the background, "
                "and no such pair is known"
            )
        return analysis(model, testing, senders, extractors, **ends)

    def whole():
        if not extractors + localizers:
            raise rgb.InputError("no head is known to have a role, so there is no set of heads to test")
        return circuit.circuit(model, testing, extractors + localizers, **ends)

    def curve():
        if len(trials) < 4:
            raise rgb.InputError(
                "ranking heads on one half of the trials and measuring on the other needs 4 trials, and "
                f"there are {len(trials)}"
            )
        ranking = circuit.ranked(model, finding, **ends)[["layer", "head"]].to_numpy()
        return circuit.curve(model, testing, ranking, **ends)

    def questions():
        if ODD_QUESTION not in trials[0].prompt or "background" not in trials[0].answers:
            raise rgb.InputError("these trials do not ask the game's question, which is what would change")
        positions = task_reading.PLACES if len(model.heads()) <= QUESTION_HEADS else ("end",)
        return task_reading.evidence(model, trials, positions=positions, progress=progress)

    def question_attention():
        found = frames.get("task_reading", pd.DataFrame({"holds": []}))
        if not found["holds"].any():
            raise rgb.InputError("no head is known to carry the question")
        strongest_first = found[found["holds"]].sort_values("effect", ascending=False, kind="stable")
        carriers = list(
            strongest_first[["layer", "head"]]
            .drop_duplicates()
            .head(HEADS)
            .itertuples(index=False, name=None)
        )
        call = call_name(
            "question_attention", {"trials": [trial_name(trial) for trial in trials], "heads": carriers}
        )

        def from_end():
            read = task_reading.reading(model, trials, progress=progress)
            last = read[read["from_position"] == read["from_position"].max()].set_index(
                ["layer", "head"], drop=False
            )
            return last.loc[carriers].reset_index(drop=True)

        return kept(call, "all", from_end)

    frames = {}
    measured = {
        "attention": looks,
        "composition": lambda: through(composition.composition),
        "mediation": lambda: through(composition.mediation),
        "circuit": whole,
        "curve": curve,
        "task_reading": questions,
        "question_attention": question_attention,
    }
    with gathering() as each:
        for name, measure in measured.items():
            try:
                with each():
                    frames[name] = measure()
                    written.append(write_frame(frames[name], folder, name))
            except CannotWrite:
                raise
            except rgb.InputError as error:
                left_out[name] = str(error)
    reasons = pd.DataFrame(left_out.items(), columns=["frame", "reason"], dtype=str)
    return [*written, write_frame(reasons, folder, "left_out")]


def stimuli(model: rgb.Vlm, trials: Sequence[rgb.Trial]) -> pd.DataFrame:
    """The pictures of some trials, as the model sees them.

    Returns:
        A row per trial × condition: ``trial, condition, prompt, expected`` (word, missing where none is
        right), ``png`` (bytes), and
        ``unseen``: why it is the picture as it was given, where nobody knows what the model sees of it; else
            missing.
    """
    rows = []
    for trial in trials:
        for condition, image in trial.images.items():
            role, file = trial.expected.get(condition), io.BytesIO()
            unseen = None
            try:
                image = as_seen(model, image)
            except rgb.InputError as error:
                unseen = str(error)
            image.save(file, "png")
            shown = dict(trial=trial.name, condition=condition, prompt=trial.prompt, unseen=unseen)
            rows.append(shown | dict(expected=trial.answers[role] if role else None, png=file.getvalue()))
    return pd.DataFrame(rows)


def panel_effects(effects: pd.DataFrame, which: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """Mean effect of each head in each panel, with its interval.

    Args:
        effects: from `rgb_circuit.patch_heads`.
        which: panel → (target condition, role whose logit is read).

    Returns:
        A row per panel × head: ``panel, target, role, layer, head, effect, ci_low, ci_high`` (logits; mean
        over trials and its 95 % bootstrap interval, missing where there is one trial only), ``n`` (trials).
    """
    blocks = []
    for panel, (target, role) in which.items():
        rows = effects[(effects["target"] == target) & (effects["role"] == role)]
        cells = rows.pivot(index="trial", columns=["layer", "head"], values="effect")
        block = cells.mean().rename("effect").reset_index()
        block["ci_low"], block["ci_high"] = (
            bootstrap_interval(cells) if len(cells) > 1 else (float("nan"), float("nan"))
        )
        block["n"] = len(cells)
        blocks.append(
            pd.concat(
                [pd.DataFrame(dict(panel=panel, target=target, role=role), index=block.index), block], axis=1
            )
        )
    return pd.concat(blocks, ignore_index=True)


def attention(
    model: rgb.Vlm, trials: Sequence[rgb.Trial], heads: Sequence[Head], *, progress: bool = True
) -> pd.DataFrame:
    """Where some heads look from [end] on the first three pictures of each trial.

    Returns:
        A row per trial × condition × head × image token: ``trial, condition, layer, head, row, column,
        attention`` (probability).
    """
    conditions = list(trials[0].images)[:PICTURES]
    blocks = []
    for trial, condition, pattern in attention_from_end(
        model, trials, conditions, heads=heads, progress=progress
    ):
        for layer, head in heads:
            cells = pd.DataFrame(over_picture(model, trial, pattern[layer, head])).stack()
            cells = cells.rename_axis(["row", "column"]).rename("attention").reset_index()
            about = pd.DataFrame(
                dict(trial=trial.name, condition=condition, layer=layer, head=head), index=cells.index
            )
            blocks.append(pd.concat([about, cells], axis=1))
    return pd.concat(blocks, ignore_index=True)


def _corrupted(trial):
    """The picture that clean is held against: plain where there is one, else the first other."""
    others = [condition for condition in trial.images if condition != "clean"]
    return "erased" if "erased" in others else others[0]
