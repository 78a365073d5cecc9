"""A manifest tells apart whatever shapes a number, and names it."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from vocabularies import byte_level

import rgb_circuit as rgb
from rgb_circuit.keeping.fingerprint import fingerprint
from rgb_circuit.keeping.manifest import differences, manifest
from rgb_circuit.keeping.store import open_store
from rgb_circuit.models.random import random_llava
from rgb_circuit.prompts import encode


@pytest.fixture(scope="module")
def parts():
    return random_llava(layers=2, heads=2, kv_heads=2, vocabulary=byte_level(begin=True))


def backend(processor):
    return processor.tokenizer.backend_tokenizer


def without_the_last_merge(processor):
    said = json.loads(backend(processor).to_str())
    said["model"]["merges"].pop()
    processor.tokenizer._tokenizer = Tokenizer.from_str(json.dumps(said))


def without_a_beginning(processor):
    backend(processor).post_processor = processors.TemplateProcessing(single="$A")


# What is changed → (a function of the processor, what the manifest calls it).
CHANGES = {
    "normalizer": (
        lambda it: setattr(backend(it), "normalizer", normalizers.Lowercase()), "tokenizer.normalizer"
    ),
    "pre-tokenizer": (
        lambda it: setattr(backend(it), "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)),
        "tokenizer.pre_tokenizer",
    ),
    "post-processor": (without_a_beginning, "tokenizer.post_processor"),
    "decoder": (lambda it: setattr(backend(it), "decoder", decoders.Fuse()), "tokenizer.decoder"),
    "merges": (without_the_last_merge, "tokenizer.merges"),
    "added "
    "tokens": (lambda it: it.tokenizer.add_tokens([AddedToken("color")]), "tokenizer.added_tokens"),
    "special tokens": (
        lambda it: setattr(it.tokenizer, "eos_token", "<|im_end|>"), "tokenizer.special_tokens"
    ),
    "what it makes": (
        lambda it: it.tokenizer.model_input_names.append("token_type_ids"), "tokenizer.reads"
    ),
    "colours": (
        lambda it: setattr(it.image_processor, "image_mean", (0.5, 0.5, 0.5)),
        r"processor.image_processor.image_mean \(",
    ),
    "resampling": (
        lambda it: setattr(it.image_processor, "resample", 0),
        r"processor.image_processor.resample \(3 there, 0 here\)",
    ),
    "settings of a call": (
        lambda it: setattr(it, "images_kwargs", {"do_normalize": False}),
        r"processor.images_kwargs.do_normalize \(nothing there, False here\)",
    ),
    "chat template": (
        lambda it: setattr(it, "chat_template", it.chat_template + " "), "chat_template"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def model(parts):
    module, processor = parts
    processor.chat_template = processor.tokenizer.chat_template
    return rgb.wrap(module, processor, name="small")


def changed(model, change, commit=None):
    """A copy of the model, with another processor in memory."""
    processor = copy.deepcopy(model.processor)
    change(processor)
    return replace(model, processor=processor, commit=commit)


@pytest.mark.parametrize("commit", [None, "0123abcd"], ids=["a folder's", "a hub model's"])
@pytest.mark.parametrize("what", CHANGES)
def test_each_part_of_a_processor_that_shapes_a_number_is_refused_by_name(
    what, commit, model, tmp_path
):
    change, named = CHANGES[what]
    open_store(tmp_path, manifest(changed(model, lambda it: None, commit), [], {}))
    with pytest.raises(rgb.InputError, match=f"a run that differs in .*{named}"):
        open_store(tmp_path, manifest(changed(model, change, commit), [], {}))
    found = differences(manifest(model, [], {}), manifest(changed(model, change), [], {}))
    assert {one.split(".")[0] for one in found} == {named.split(".")[0]}


def test_how_a_tokenizer_cuts_and_pads_shapes_nothing(model):
    def trained(processor):
        backend(processor).enable_truncation(20)
        backend(processor).enable_padding(length=96)
        processor.tokenizer.padding_side, processor.tokenizer.model_max_length = "right", 20

    assert fingerprint(changed(model, trained)) == fingerprint(model)


def test_a_run_changes_no_fingerprint(model):
    before = fingerprint(model)
    trials = rgb.rgb_trials(model, 1)
    rgb.play(model, trials, progress=False)
    encode(model, [(trials[0], "clean")])
    assert fingerprint(model) == before


@pytest.mark.parametrize("name", ["weights", "buffers", "config"])
def test_what_of_a_model_shapes_a_number_is_refused_by_name(name, parts):
    module, processor = copy.deepcopy(parts[0]), parts[1]
    before = manifest(rgb.wrap(module, processor, name="small"), [], {})
    with torch.no_grad():
        if name == "weights":
            module.lm_head.weight[0, 0] += 1
        elif name == "buffers":
            # What `module.half()` does to rotary frequencies, which no file has.
            module.model.language_model.rotary_emb.inv_freq.mul_(1.001)
        else:
            module.config.text_config.rms_norm_eps = 1e-3
    after = manifest(rgb.wrap(module, processor, name="small"), [], {})
    assert differences(before, after) == ["config" if name == "config" else "weights"]
