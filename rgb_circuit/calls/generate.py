"""The model's text, with and without edits.

1. Generate with Hugging Face's ``generate(do_sample=False)``: greedily, keeping keys and values, up
   to the end token. A checkpoint's settings about which tokens may come stay. Settings about how
   tokens are computed, or about what is returned, are overridden (`OVERRIDDEN`), which leaves the
   text the same. Settings under which there is not one greedy text are refused (`REFUSED`).
2. Make the edits in each forward: the prompt's, and that of every generated token. Positions are
   the prompt's. An edit that can act on generated tokens too (with source ``"own"`` or ``"zero"``,
   or on attention) does so: ``"end"`` is then every token from which the next one is read, and
   ``"all"`` and ``"text"`` include generated tokens, both as queries and as keys. Values from a
   picture's run have no counterpart there, and are written into the prompt only.
3. Generate again without edits.

Cost: two texts, each with a forward of the prompt and its picture, and a forward of one token for
every further generated token; and a forward per picture that an edit takes values from. One request
to a server.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from transformers import GenerationConfig

from ..arguments import check_wrapped, whole_number
from ..edits import OF_ATTENTION, AttentionEdit, Edit, Positions, check_edits
from ..errors import FOREIGN, InputError, first_line
from ..programs.said import said
from ..programs.sweep import plain
from ..prompts import check_trials, encode
from ..running.checks import check_attention, check_finite, check_seeing
from ..running.execute import execute
from ..trial import Trial, one_condition
from ..vlm import Vlm
from .patching import PatchedEdits

# Setting of transformers' generation configuration → its value here, whatever the checkpoint says.
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
# Setting → the value that leaves one greedy text, and what any other value does.
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
    """The text that a model says about a picture.

    Attributes:
        text: without edits.
        edited_text: with edits; None if there are none.
        tokens: a row per token of either text: ``run`` ("unedited" or "edited"), ``step`` (from 0),
            ``token``, its ``id``, its ``logit``, and ``margin``, its logit minus the likeliest
            other token's. An end token has a row, but is not part of the text. A margin below zero
            comes from the model's own generation settings, such as a repetition penalty.
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
    """Generate the model's text about a picture, with and without edits.

    Args:
        condition: which picture, and question.
        edits: made together: `Edit` of any component and scale, from a condition, ``"own"`` or
            ``"zero"``; and `AttentionEdit`. Positions are the prompt's; ``"end"``, ``"all"`` and
            ``"text"`` extend to generated tokens, except for values from a picture.
        max_new_tokens: the most tokens of each text.

    Returns:
        The two texts. Without edits it is Hugging Face's ``generate(do_sample=False)`` on the same
        checkpoint. The checkpoint's generation configuration decides which tokens may come (end
        tokens, repetition and n-gram penalties, suppressed, forced and bad words, biases, least
        lengths, watermarks). Sampling, kinds of caches, assisted decoding and the returned extras
        are overridden, which leaves the text as it is.

    Raises:
        InputError: a condition that the trial lacks, an edit of what does not exist or that leaves
            a token nothing to attend to, a number of tokens below one, or a generation
            configuration under which ``generate(do_sample=False)`` is not one greedy text (beams,
            several sequences, guidance, contrastive search, constraints, stop strings, token
            healing, a time limit, quantized caches), before any forward. A server's configuration
            is not seen here, so there these settings are overridden.

    Examples:
        >>> edits = [rgb.Edit(3, head, "erased") for head in (1, 2, 3)]
        >>> rgb.generate(model, trials[0], edits=edits, max_new_tokens=1)
        unedited: blue
        edited:   white
    """
    check_wrapped(model)
    if not isinstance(trial, Trial):
        raise InputError(
            f"trial is a {type(trial).__name__}; the model talks about one at a time, so give one, "
            "such as trials[0]"
        )
    max_new_tokens = whole_number("max_new_tokens", max_new_tokens)
    settings = _settings(model, max_new_tokens)
    one_condition("condition", condition)
    edits = (edits,) if isinstance(edits, Edit | AttentionEdit) else tuple(edits or ())
    variants = {"unedited": (), "edited": edits} if edits else {"unedited": ()}
    kept, front, pictures = 1, 0, {}
    spots: Mapping[Positions, list[int]] | None = {}
    if edits:
        check_edits(model, {"edited": edits})
        if any(edit.source == "mean" for edit in edits):
            raise InputError(
                "source 'mean' is of several trials, and one is talked about; use another one"
            )
        request = PatchedEdits.of([trial], {"edited": edits}, condition).prepare(model, None)(trial)
        kept, front, spots = request.kept, request.front, request.spots
        for source in request.conditions:
            if keep := _kept_of(edits, source, condition):
                pictures[source] = {"inputs": encode(model, [(trial, source)]), "keep": keep}
    else:
        check_trials(model, [trial], [condition])
    tokenizer = model.processor.tokenizer
    with warnings.catch_warnings():
        # nnsight warns this way whenever a loop over tokens ends.
        warnings.filterwarnings("ignore", message=".*was never reached: the loop asked for a step")
        result = execute(
            model,
            said,
            (model.n_heads, model.d_head),
            encode(model, [(trial, condition)]),
            pictures,
            condition,
            kept,
            front,
            plain(list(variants.values())),
            spots,
            settings,
        )
    check_attention(model, result["gaps"])
    check_finite(model, all(run["finite"] for run in result["runs"]))
    check_seeing(model, any(run["blind"] for run in result["runs"]))
    texts = [
        tokenizer.decode(run["ids"], skip_special_tokens=True).strip() for run in result["runs"]
    ]
    rows = [_rows(tokenizer, name, run) for name, run in zip(variants, result["runs"])]
    return Said(texts[0], texts[1] if edits else None, pd.concat(rows, ignore_index=True))


def _settings(model, max_new_tokens):
    """The settings under which Hugging Face's ``generate`` gives one greedy text.

    Raises:
        InputError: a checkpoint's own settings rule that out.
    """
    if model.server is None:
        _check_settings(model.name, model.nnsight._module)
    here = {setting: usual for setting, (usual, _) in REFUSED.items()} | OVERRIDDEN
    # Which settings exist depends on transformers' version.
    known = vars(GenerationConfig())
    return {setting: value for setting, value in here.items() if setting in known} | {
        "max_new_tokens": max_new_tokens,
        # A single prompt is not padded, but transformers warns if no padding token is set.
        "pad_token_id": model.processor.tokenizer.pad_token_id or 0,
    }


def _check_settings(name, module):
    """Raise InputError if a model's own settings rule out one greedy text, or are invalid."""
    given = vars(module.generation_config)
    quantized = given.get("cache_implementation") == "quantized"
    refused = REFUSED | (
        {"cache_implementation": (None, "rounds keys and values")} if quantized else {}
    )
    for setting, (usual, what) in refused.items():
        # Unset is None, and for some settings False.
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
    """What the edits keep of a picture, as words of `programs.capture`."""
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
