"""The findings of a run, as the command prints them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from rgb_circuit.calls.panels import (
    LEAST_SAID,
    mean_floor,
    panels,
    shown,
    strongest,
    tested,
)
from rgb_circuit.calls.play import right_words, written_otherwise
from rgb_circuit.heads import Head
from rgb_circuit.models.planted import MODERATE_NOISE
from rgb_circuit.plots.canvas import brief
from rgb_circuit.stimuli.drawing import form_at
from rgb_circuit.stimuli.replicates import Replicates, counted, said
from rgb_circuit.stimuli.tasks.rgb import ODD_QUESTION, PALETTE
from rgb_circuit.task import Task
from rgb_circuit.trial import Trial
from rgb_circuit.vlm import Vlm

from .. import roles
from ..evidence import by_prediction, power
from ..report import accuracy, digits
from ..report.playing import cannot_play
from ..roles import standing
from .check import Check
from .estimated import duration, size
from .findings import Findings, Study

# How the role table shows a state.
MARKS = {"holds": "yes", "refuted": "no", "undecided": "?", "void": "-"}


def game(model: Vlm, played: pd.DataFrame, task: Task, trials: Sequence[Trial]) -> None:
    """Print how often the model answered right in these trials, from the frame of
    `rgb_circuit.play`."""
    doing = f"{'plays' if task.is_game else 'answers questions about'} {task.says or task.name}"
    cannot = cannot_play(model.name, played, task)
    print(
        f"{cannot} (by picture):"
        if cannot
        else f"{model.name} {doing} (trials answered correctly, by picture):"
    )
    width = max(10, *map(len, played["condition"].cat.categories))
    for condition, rows in played.groupby("condition", observed=True, sort=False):
        if rows["correct"].count():
            print(f"  {condition:<{width}} {rows['correct'].sum()} of {rows['correct'].count()}")
        else:
            answers = rows["answer"].value_counts().head(3)
            print(
                f"  {condition:<{width}} not scored; most often "
                f"{', '.join(f'{word!r} ({n})' for word, n in answers.items())}"
            )
    if sentence := written_otherwise(trials, played):
        print(f"  But {sentence}.")
    wrong = played[~played["correct"].fillna(True).astype(bool)]
    if len(wrong):
        first = wrong.iloc[0]
        print(
            f"  e.g. {first['trial']!r} {first['condition']}: expected "
            f"{right_words(wrong).iloc[0]!r}, "
            f"answered {first['answer']!r}"
        )
    if not task.is_game:
        for line in accuracy.lines(
            accuracy.accuracy(played, trials, task), accuracy.by_trial(played, trials)
        ):
            print(line)


def too_few(model: Vlm, trials: Sequence[Trial], study: Study) -> None:
    """Print, before anything is measured, that the trials can confirm no head, if so."""
    if study.tests_roles:
        _, sentence = power.beforehand(trials, study.task, len(model.heads()))
        if sentence:
            print(sentence, flush=True)


def first_played(played: pd.DataFrame) -> None:
    """Print, in one line, how often the model answered right in its first trials."""
    right, asked = played["correct"].sum(), played["correct"].count()
    n = played["trial"].nunique()
    print(
        f"First {n} trial{'s' * (n != 1)}: {right} of {asked} pictures are answered correctly.",
        flush=True,
    )


def findings(model: Vlm, found: Findings, options: Mapping[str, Any], task: Task) -> None:
    """Print all other findings.

    Args:
        options: of the run.
        task: of the run.
    """
    given = found.played["trial"].nunique()
    if left_out := given - len(found.trials):
        print(
            f"Of {given} trials, {left_out} {left_out_for(options)} "
            f"{'are' if left_out > 1 else 'is'} left out of everything below."
        )
    elif cannot_play(model.name, found.played, task):
        doing = "plays" if task.is_game else "answers"
        print(f"So nothing below shows what a head does when the model {doing}.")
    _panels(model, found, options["positions"])
    if found.evidence is None:
        print(f"\nNo role table: {found.left_out['roles']}")
    else:
        _roles(found.table, found.evidence, task, options, _counted_trials(found.trials))
    wrong = 0 if found.evidence is None else found.evidence["wrong"].iloc[0]
    if (
        wrong
        and not options["only_correct"]
        and not options.get("flips_only")
        and wrong < len(found.trials)
    ):
        print(
            f"{wrong} of {len(found.trials)} trials are answered wrongly on at least one picture "
            "and count like all others, so effects may be diluted and absences undecided; "
            "--only-correct leaves them out."
        )


def left_out_for(options: Mapping[str, Any]) -> str:
    """Why a run leaves trials out, in words."""
    return "that do not flip" if options.get("flips_only") else "with a wrong answer"


def calibration(summary: pd.DataFrame, false: pd.DataFrame) -> None:
    """Print one table of how often the verdicts of each reading were right.

    Args:
        summary, false: from `analyses.calibrate.summary` and
            `analyses.calibrate.false_discoveries`.
    """
    levels = sorted(summary["noise"].unique())
    noise = MODERATE_NOISE if MODERATE_NOISE in levels else levels[-1]
    shown = summary[summary["noise"] == noise]
    shown = shown[(shown["true"] > 0) | (shown["given"] > 0)]
    models = int(shown["models"].max())
    rows = []
    for reading, own in shown.groupby("reading", sort=False):
        for number, row in enumerate(own.to_dict("records")):
            rows.append(
                {
                    "reading": reading if number == 0 else "",
                    "role": row["role"],
                    "found (recall)": _counted(row, "right", "true", "recall"),
                    "right (precision)": _counted(row, "right", "given", "precision"),
                }
            )
        for row in false[false["reading"] == reading].to_dict("records"):
            given = (
                f"{row['heads_with_a_role']} of {row['heads']} heads, {row['testable']} testable"
            )
            if not row["informative"]:
                given = f"not informative: of {row['heads']} heads only {row['testable']} testable"
            rows.append(
                {
                    "reading": "",
                    "role": f"none ({row['kind']})",
                    "found (recall)": "",
                    "right (precision)": given,
                }
            )
    print(
        f"Verdicts on {models} planted model{'s' * (models > 1)} at {100 * noise:g} % noise, with "
        f"exact 95 % intervals over heads (of {shown['true'].sum()}, {shown['testable'].sum()} can "
        "be tested); “none”: roles given in models where no head has one:"
    )
    table = pd.DataFrame(rows)
    left = [f"{{:<{max(map(len, [name, *table[name]]))}}}".format for name in table]
    print("  ".join(write(name) for write, name in zip(left, table)).rstrip())
    for row in table.itertuples(index=False):
        print("  ".join(write(cell) for write, cell in zip(left, row)).rstrip())


def _counted(row, part, whole, share):
    """A count with its share, such as 11 of 12 [62, 100] %."""
    if not row[whole]:
        return "–"
    low, high = (100 * row[f"{share}_{end}"] for end in ("low", "high"))
    return f"{row[part]} of {row[whole]} [{low:.0f}, {high:.0f}] %"


def _panels(model, found, positions):
    where = f"at positions '{positions}', mean of {_counted_trials(found.trials)}"
    table = strongest(panels(found.effects, found.which, trials=found.trials))
    if (table == 0).all(axis=None):
        print(f"\nRestored alone {where}, no head moves the logit of any answer.")
    else:
        print(f"\nStrongest heads, effect in logits of restoring one head {where}:")
        heads = [f"{brief(role)}, when {brief(target)}" for target, role in found.which.values()]
        print(digits.table(table).set_axis(heads, axis=1).to_string())
        if not shown(tested(found.effects, found.which, trials=found.trials)).any():
            print(f"No head is shown to have an effect of {LEAST_SAID} or more.")
    rounding = mean_floor(found.effects.attrs["noise_floor"], len(found.trials))
    number = str(model.dtype).removeprefix("torch.")
    if rounding:
        print(
            f"Rounding in {number} alone may change such a mean by up to {rounding:.2g} logits; "
            "smaller effects count as 0."
        )


def _counted_trials(trials):
    return said(len(trials), Replicates.of(trials).n())


def _roles(table, evidence, task, options, n):
    """Print the heads with a role, or the closest to one, and the untestable predictions."""
    found = table[table["role"] != "none"]
    predictions = [name for name in table if name in task.says_of_predictions]
    scored = table.loc[table["score"].abs().dropna().nlargest(5).index]
    refused = roles.refused(evidence, task)
    if lacking := roles.no_gap(evidence, task):
        print(f"\nN{lacking[1:]}. Effects are in evidence.parquet.")
    if len(found):
        tested = f"each prediction tested on {n}"
        positions = options["positions"]
        where = "[end]" if positions == "end" else f"positions '{positions}'"
        print(f"\nRoles from effects at {where}, {tested} (all heads in roles.parquet):")
    elif len(scored):
        print("\nNo head is shown to meet every prediction of a role. The strongest heads:")
        found = scored
    else:
        # No head has a score, for lack of a gap or of trials.
        if refused and not lacking:
            print(f"\nNo role can be tested. {refused[:1].upper()}{refused[1:]}.")
        return
    shown = found.sort_values("score", key=abs, ascending=False)
    states = by_prediction(evidence, "state").where(by_prediction(evidence, "void") == "", "void")
    marks = states.loc[list(zip(shown["layer"], shown["head"])), predictions].replace(MARKS)
    marks = marks.set_axis(shown.index)
    label = shown["layer"].astype(str) + "." + shown["head"].astype(str)
    score = digits.table(shown[["score"]])
    role = shown["role"] + shown["colors"].map(lambda colors: f" ({colors})" if colors else "")
    columns = [label.rename("head"), role.rename("role"), score, marks]
    print(pd.concat(columns, axis=1).to_string(index=False))
    _rivals(found, evidence, task)
    print(
        "yes: shown; no: the opposite is shown; ?: these trials show neither (evidence.parquet "
        "says how many would); -: cannot be tested."
    )
    if not lacking:
        _without_heads(evidence, task, every=options.get("hypotheses") is not None)
    if refused:
        print(f"{refused[:1].upper()}{refused[1:]}.")
    if not lacking:
        print(_power(evidence, 0 if options["only_correct"] else None))
    frozen = evidence[evidence["frozen"]].drop_duplicates(["layer", "head"])
    named = [head for hypothesis in task.receivers for head in roles.heads(table, hypothesis.name)]
    unnamed = [head for head in zip(frozen["layer"], frozen["head"]) if head not in named]
    if unnamed:
        names = ", ".join(str(Head(*head)) for head in unnamed)
        receivers = " and ".join(hypothesis.plural for hypothesis in task.receivers)
        print(
            f"Frozen together with the {receivers}, because they also carry the {task.right} "
            f"word, or do so when the others are silenced: {names}."
        )


def _rivals(found, evidence, task):
    """Print the open rival explanations of each head with a role."""
    for hypothesis in task.hypotheses:
        heads = [Head(*head) for head in roles.heads(found, hypothesis.name)]
        left = {head: standing.open_rivals(evidence, hypothesis, head) for head in heads}
        for rival in hypothesis.rivals if heads else ():
            still = [str(head) for head in heads if rival.name in left[head]]
            verdict = f"still open for {', '.join(still)}" if still else "refuted for each"
            print(f"Rival of {hypothesis.name}, “{rival.name}”: {verdict}.")


def _without_heads(evidence, task, every):
    """Print the roles that no head is shown to have: of all roles, or of those in the hypothesised
    circuit."""
    for stands in standing.standings(evidence, task).values():
        if (every or stands.hypothesis.in_circuit) and not stands.heads:
            sentence, nearly = standing.none_is(stands), standing.nearly(stands)
            print(f"{sentence[:1].upper()}{sentence[1:]}{nearly and f': {nearly}'}.")


def _power(evidence, stray):
    """The smallest effect that these trials can confirm, in words; ``stray`` as in
    `roles.power`."""
    even, uneven = (
        roles.power(evidence, variation, stray=stray) for variation in (power.EVEN, power.UNEVEN)
    )
    return power.in_words(counted(evidence), even, uneven)


def check(model: Vlm, found: Check) -> None:
    """Print the result of `analyses.study.check` as a short table."""
    for name, what in _about(model, found).items():
        print(f"{name:<11}  {what}")
    if model.server:
        print(
            "\nPlain hooks need the weights, so patched logits are not compared with them here; "
            "check the model where it can be loaded.\nEach run is patched with its own "
            "activations, which must change nothing. Effects in logits:"
        )
    else:
        print("\nPatched by the engine and by plain hooks on these weights. Effects in logits:")
    table = found.patched
    shown = pd.DataFrame(
        {
            "component": table["component"],
            "positions": table["positions"],
            "of": table.apply(_place, axis=1),
            "answer": table["answer"],
            "effect": table["effect"].map("{:.4f}".format),
            "must be" if model.server else "by hooks": table["wanted"].map("{:.4f}".format),
            "difference": table["difference"].map("{:.1e}".format),
            "agrees": np.where(table["difference"] <= found.tolerance, "yes", "NO"),
        }
    )
    print(f"{shown.to_string(index=False)}\n\n{_agreement(model, found)}")


def _about(model, found):
    """Name → what shapes the numbers, in words."""
    number = str(model.dtype).removeprefix("torch.")
    kernel = model.config.text_config._attn_implementation
    where = (
        model.server.url if model.server else f"{model.nnsight.device}, attention kernel {kernel}"
    )
    times = {1: "once", 2: "twice"}[len(model.layout.views)]
    written = model.processor.tokenizer.convert_ids_to_tokens
    right = found.played["correct"].dropna()
    memory = ", ".join(f"{size(most)} in {place}" for place, most in found.memory.items())
    return {
        "model": f"{model.name}: {model.n_layers} layers × {model.n_heads} heads, {number} on "
        f"{where}",
        "picture": f"{model.layout.tokens()} image tokens, {model.grid[0]} × {model.grid[1]} "
        f"places shown {times}; tokens that attend to later ones: {model.ahead}",
        "read at": ", ".join(f"{word} {written(token)!r}" for word, token in found.tokens.items())
        + f" (form: {form_at(model, model.prompt(ODD_QUESTION), PALETTE)})",
        "plays": f"{right.sum()} of {len(right)} pictures are answered correctly",
        "time": f"{duration(found.forward)} per plain forward; {duration(found.sweep)} per sweep "
        f"of all {len(model.heads()):,} heads at [end] with both pictures",
        "memory": f"at most {memory}" if memory else "on the server, which does not report it",
        "noise floor": f"{found.floor:.2g} logits, for an effect in one trial at [end]",
    }


def _place(edit):
    return (
        f"layer {edit['layer']}"
        if pd.isna(edit["head"])
        else f"head {edit['layer']}.{edit['head']}"
    )


def _agreement(model, found):
    """A sentence on whether the patched logits agree."""
    table, number = found.patched, str(model.dtype).removeprefix("torch.")
    bound = f"{found.tolerance:.2g} logits"
    off = table[~(table["difference"] <= found.tolerance)].sort_values(
        "difference", ascending=False
    )
    if len(off):
        first = off.iloc[0]
        return (
            f"{len(off)} of {len(table)} are off by more than rounding in {number} explains "
            f"({bound}), most of all {first['component']} of {_place(first)} at "
            f"{first['positions']!r}, by {first['difference']:.2g}: do not use effects of this "
            "model as it is loaded here, and report this table."
        )
    text = (
        f"All {len(table)} agree: they differ by at most {table['difference'].max():.2g} logits, "
        f"and rounding in {number} explains up to {bound}"
    )
    if model.dtype != torch.float32:
        text += f" (engine and hooks round differently; the noise floor is {found.floor:.2g})"
    if model.server:
        return f"{text}."
    large = int((table["wanted"].abs() > found.tolerance).sum())
    if large <= len(table) // 2:
        others = (
            "" if model.dtype == torch.float32 else "check in float32 too (--dtype float32), or "
        )
        return (
            f"{text}. But no more than {large} of the effects are larger than that, so this says "
            f"little; {others}draw other trials and heads (--seed)."
        )
    return f"{text}; {large} of the effects are larger than that."
