"""What the model says, with edits made and without.

1. The model talks as Hugging Face's ``generate(do_sample=False)`` lets it: greedily, keys and
   values kept, up to its end token. Of a checkpoint's other generation settings those hold that say
   which tokens may come; those that say how tokens are computed, or what is returned with them, are
   overridden (`OVERRIDDEN`), since the text is the same; and those that make it another than one
   greedy text are refused (`REFUSED`).
2. Edits are made in each of its forwards: the prompt's, and that of every token that it said.
   Positions are the prompt's. Where an edit has something to act on in later tokens too (what the
   run itself has there, zeros, or a look), ``"end"`` is every token from which something is said,
   and ``"all"`` and ``"text"`` hold what was said, as tokens that look and as tokens that are
   looked at. What is taken from a picture's run has no counterpart there and is written into the
   prompt alone.
3. The same again without edits.

Cost: two texts, each a forward of the prompt with its picture and one of a single token for every
further token said; and a forward for each picture that an edit takes from. One request to a server.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from transformers import GenerationConfig

from ..edits import OF_ATTENTION, AttentionEdit, Edit, Positions, check_edits
from ..errors import FOREIGN, InputError, first_line
from ..programs.said import said
from ..programs.sweep import plain
from ..prompts import check_trials, encode
from ..running.checks import check_attention, check_finite, check_seeing
from ..running.execute import execute
from ..trial import Trial
from ..vlm import Vlm
from .patching import PatchedEdits

# Setting of transformers' generation configuration → what it is here, whatever the checkpoint says.
OVERRIDDEN = {
    "do_sample": False,
    "use_cache": True,
    "cache_implementation": "dynamic",
    "prefill_chunk_size": None,
    "prompt_lookup_num_tokens": None,
    "assistant_early_exit": None,
    "use_mtp": False,
    "is_assistant": False,
    "return_dict_in_generate": False,
    "output_scores": False,
    "output_logits": False,
    "output_attentions": False,
    "output_hidden_states": False,
}
# Setting → the value that leaves one greedy text, and what any other does.
REFUSED = {
    "num_beams": (1, "searches with beams"),
    "num_return_sequences": (1, "wants several texts"),
    "guidance_scale": (1, "weighs against a run without the prompt"),
    "penalty_alpha": (0, "searches contrastively"),
    "dola_layers": (None, "contrasts layers"),
    "constraints": (None, "constrains a search with beams"),
    "force_words_ids": (None, "constrains a search with beams"),
    "stop_strings": (None, "stops at strings, for which transformers wants a tokenizer"),
    "token_healing": (False, "changes the prompt's last token"),
    "max_time": (None, "stops by the clock"),
}


@dataclass(frozen=True, eq=False)
class Said:
    """What a model says about a picture.

    Attributes:
        text: without edits.
        edited_text: with them; None where there are none.
        tokens: a row per token of either: ``run`` ("unedited" or "edited"), ``step`` (from 0),
            ``token``, its ``id``, its ``logit``, and ``margin``, how far that is above the
            likeliest other token's. An end token has a row, and no place in the text. A margin
            below zero is the work of the model's own generation settings, such as a repetition
            penalty.
    """

    text: str
    edited_text: str | None
    tokens: pd.DataFrame

    def __repr__(self) -> str:
        if self.edited_text is None:
            return f"says: {self.text}"
        return f"unedited: {self.text}\nedited:   {self.edited_text}"


def generate(
    model: Vlm,
    trial: Trial,
    condition: str = "clean",
    edits: Sequence[Edit | AttentionEdit] = (),
    max_new_tokens: int = 20,
) -> Said:
    """What the model says about a picture, with edits made and without.

    Args:
        condition: which picture, and question.
        edits: made together: `Edit` of any component and scale, from a condition, ``"own"`` or
            ``"zero"``; and `AttentionEdit`. Positions are the prompt's; ``"end"``, ``"all"`` and
            ``"text"`` go on to what is said, but for what is taken from a picture.
        max_new_tokens: tokens to say at most, each run.

    Returns:
        What was `Said`. Without edits it is Hugging Face's ``generate(do_sample=False)`` on the
        same checkpoint. Its generation configuration holds in what says which tokens may come (end
        tokens, repetition and n-gram penalties, suppressed, forced and bad words, biases, least
        lengths, watermarks). Sampling, kinds of caches, assisted decoding and what is returned are
        overridden, which leaves the text as it is.

    Raises:
        InputError: a condition that the trial lacks, an edit that does not exist or that leaves a
            token nothing to look at, a number of tokens below one, or a generation configuration
            under which ``generate(do_sample=False)`` is not one greedy text (beams, several
            sequences, guidance, contrastive search, constraints, stop strings, token healing, a
            time limit, quantized caches), before any forward. On a server these are overridden: its
            configuration is not seen here.

    Examples:
        >>> edits = [rgb.Edit(3, head, "erased") for head in (1, 2, 3)]
        >>> rgb.generate(model, trials[0], edits=edits, max_new_tokens=1)
        unedited: blue
        edited:   white
    """
    if not isinstance(max_new_tokens, int) or max_new_tokens < 1:
        raise InputError(f"max_new_tokens is {max_new_tokens!r}; use a whole number from 1 on")
    settings = _settings(model, max_new_tokens)
    edits = tuple(edits)
    variants = {"unedited": (), "edited": edits} if edits else {"unedited": ()}
    kept, pictures = 1, {}
    spots: Mapping[Positions, list[int]] | None = {}
    if edits:
        check_edits(model, {"edited": edits})
        if any(edit.source == "mean" for edit in edits):
            raise InputError(
                "source 'mean' is of several trials, and one is talked about; use another one"
            )
        request = PatchedEdits.of([trial], {"edited": edits}, condition).prepare(model, None)(trial)
        kept, spots = request.kept, request.spots
        for source in request.conditions:
            if keep := _kept_of(edits, source, condition):
                pictures[source] = {"inputs": encode(model, [(trial, source)]), "keep": keep}
    else:
        check_trials(model, [trial], [condition])
    tokenizer = model.processor.tokenizer
    with warnings.catch_warnings():
        # How nnsight tells that a loop over tokens has come to its end.
        warnings.filterwarnings("ignore", message=".*was never reached: the loop asked for a step")
        done = execute(
            model,
            said,
            (model.n_heads, model.d_head),
            encode(model, [(trial, condition)]),
            pictures,
            condition,
            kept,
            plain(list(variants.values())),
            spots,
            settings,
        )
    check_attention(model, done["gaps"])
    check_finite(model, all(run["finite"] for run in done["runs"]))
    check_seeing(model, any(run["blind"] for run in done["runs"]))
    texts = [tokenizer.decode(run["ids"], skip_special_tokens=True).strip() for run in done["runs"]]
    rows = [_rows(tokenizer, name, run) for name, run in zip(variants, done["runs"])]
    return Said(texts[0], texts[1] if edits else None, pd.concat(rows, ignore_index=True))


def _settings(model, max_new_tokens):
    """What Hugging Face's ``generate`` is told, so that it is one greedy text.

    Raises:
        InputError: a checkpoint's own setting makes it another.
    """
    if model.server is None:
        _check_settings(model.name, model.nnsight._module)
    here = {setting: usual for setting, (usual, _) in REFUSED.items()} | OVERRIDDEN
    # Which settings there are differs with transformers' version.
    known = vars(GenerationConfig())
    return {setting: value for setting, value in here.items() if setting in known} | {
        "max_new_tokens": max_new_tokens,
        # A single prompt gets no padding, and transformers warns where no token for it is set.
        "pad_token_id": model.processor.tokenizer.pad_token_id or 0,
    }


def _check_settings(name, module):
    """Raise InputError if a model's own settings make its text another than one greedy one, or
    none."""
    given = vars(module.generation_config)
    quantized = given.get("cache_implementation") == "quantized"
    refused = REFUSED | (
        {"cache_implementation": (None, "rounds keys and values")} if quantized else {}
    )
    for setting, (usual, what) in refused.items():
        # Unset is None, and False in some.
        if given.get(setting) not in (None, False, usual):
            raise InputError(
                f"the generation configuration of {name!r} has {setting} = {given[setting]!r}, "
                f"which {what}, and generate says one greedy text; set it to {usual} "
                "(generation_config.json, or generation_config of the model)"
            )
    try:
        module.generation_config.validate()
    except FOREIGN as error:
        raise InputError(
            f"transformers refuses the generation configuration of {name!r} ({first_line(error)}); "
            "correct it (generation_config.json, or generation_config of the model)"
        ) from error
    if misplaced := getattr(module.config, "_get_generation_parameters", dict)():
        raise InputError(
            f"the configuration of {name!r} has {', '.join(sorted(misplaced))}, which transformers "
            "takes from the generation configuration alone; move it there (from config.json to "
            "generation_config.json, or from config to generation_config of the model)"
        )


def _kept_of(edits, source, condition):
    """What must be kept of a picture, as words of `programs.capture`."""
    keep = {edit.component for edit in edits if edit.source == source and not edit.remade}
    if source == condition and any(edit.source == "rounding" for edit in edits):
        keep.add("z")
    if any(
        edit.source == source or (edit.component in OF_ATTENTION and source == condition)
        for edit in edits
        if edit.remade
    ):
        keep.add("attention")
    return sorted(keep)


def _rows(tokenizer, name, run):
    ids, logits = run["ids"].tolist(), run["logits"].numpy()
    return pd.DataFrame(
        {
            "run": name,
            "step": np.arange(len(ids)),
            "token": [tokenizer.decode([one]) for one in ids],
            "id": ids,
            "logit": logits[:, 0],
            "margin": logits[:, 0] - logits[:, 1],
        }
    )
