"""What surrounds a command or a model: screens, pipes, half-fetched files, sizes that a processor
allows."""

import copy
import os
import subprocess
import sys

import families
import pytest
import torch
import transformers as hf

import rgb_circuit as rgb
from analyses.command import main
from analyses.command.as_options import as_options
from rgb_circuit.models.random import random_llava
from rgb_circuit.models.small import save
from rgb_circuit.module import layout
from rgb_circuit.programs.capture import attention_gaps, capture
from rgb_circuit.prompts import encode
from rgb_circuit.running import checks

PLAY = [sys.executable, "-m", "rgb_circuit", "play", "--trials", "2"]


def test_a_backend_that_is_not_there_keeps_no_command_from_running():
    surroundings = {**os.environ, "MPLBACKEND": "module://a_notebook.that_is_not_here"}
    done = subprocess.run(PLAY, capture_output=True, text=True, env=surroundings)
    assert done.returncode == 0 and "2 of 2" in done.stdout, done.stderr


def test_a_reader_that_goes_away_ends_the_command_without_a_traceback():
    # It is gone before anything is printed, however busy the machine is.
    script = f'{" ".join(PLAY)} | true; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("141\n", "")


@pytest.mark.parametrize(
    "message, said",
    [
        ("give dtype='bfloat16', device_map='cpu'", "give --dtype bfloat16, --device cpu"),
        ("leave it on a server with remote=True", "leave it on a server with --remote"),
        ("has pictures of one size; leave tiles "
         "out", "has pictures of one size; leave --tiles out"),
        ("leave device_map and dtype out with "
         "remote=True", "leave --device and --dtype out with --remote"),
        ("device_map is 'x'; use 'auto'", "--device is 'x'; use 'auto'"),
        ("give tiles=10 (of 2 to 10 tiles a side)", "give --tiles 10 (of 2 to 10 tiles a side)"),
        ("Leave them out with only_correct=True", "Leave them out with --only-correct"),
        ("use rgb_trials(model, n=32)", "use --trials 32"),
        ("a dtype of the server's is bfloat16", "a dtype of the server's is bfloat16"),
        ("set image_token_id = 5 in the "
         "configuration", "set image_token_id = 5 in the configuration"),
    ],
)  # fmt: skip
def test_messages_of_the_command_speak_of_options(message, said):
    assert (
        as_options(message, ["dtype", "device", "remote", "tiles", "only_correct", "model"]) == said
    )


def test_what_layers_offers_it_takes(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["layers", "--component", "foo"])
    assert "'attn_out', 'mlp_out', 'resid_pre'" in capsys.readouterr().err.replace(
        "choose from ", ""
    )


def test_quiet_leaves_what_a_command_is_for(capsys):
    assert main(["say", "-q", "--tokens", "1"]) == 0
    assert "says:" in capsys.readouterr().out


@pytest.mark.parametrize(
    "file", ["config.json", "tokenizer.json", "model.safetensors", "processor_config.json"]
)
def test_a_file_that_git_lfs_has_not_fetched_is_named(file, tmp_path):
    folder = save(*random_llava(0, layers=2), tmp_path / "model")
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1234567\n"
    (folder / file).write_text(pointer)
    with pytest.raises(
        rgb.InputError, match=rf"holds {file} as Git LFS pointers.*run git lfs pull in"
    ):
        rgb.load(folder)


@pytest.mark.parametrize(
    "smallest, largest, tiles, fitting",
    [(16, 80 * 80, 16, "tiles=10 .of 2 to 10"), (96 * 96, 320 * 320, 6, "tiles=12 .of 12 to 40")],
)
def test_pixels_that_a_processor_allows_say_how_many_tiles_there_may_be(
    smallest, largest, tiles, fitting
):
    module, processor = families.built("qwen2_vl")
    processor = copy.deepcopy(processor)
    processor.image_processor.size = {"shortest_edge": smallest, "longest_edge": largest}
    with pytest.raises(rgb.InputError, match=f"resizes a picture of .*give {fitting}"):
        rgb.wrap(module.eval(), processor, name="qwen", tiles=tiles)
    assert rgb.wrap(module, processor, name="qwen", tiles=int(fitting[6:8])).grid[0] == int(
        fitting[6:8]
    )


def test_where_nobody_says_how_many_tiles_the_nearest_number_that_fits_is_drawn():
    module, processor = families.built("qwen2_vl")
    processor = copy.deepcopy(processor)
    processor.image_processor.size = {"shortest_edge": 16, "longest_edge": 80 * 80}
    with pytest.warns(UserWarning, match="pictures of 10 × 10 tiles are drawn for 'qwen'") as told:
        assert rgb.wrap(module.eval(), processor, name="qwen").grid == (10, 10)
    assert [warning.filename for warning in told] == [__file__]


@pytest.mark.parametrize(
    "count, seen",
    [
        (25, "a grid of 5 × 5 places, between which its 24 px do not divide"),
        (26, "neither a square grid nor two"),
    ],
)
def test_image_tokens_that_are_no_grid_are_told_as_they_are(count, seen, monkeypatch):
    monkeypatch.setattr(layout, "_tokens", lambda *given: count)
    with pytest.raises(
        rgb.InputError, match=f"makes {count} image tokens of a picture of 24 × 24 px, {seen}"
    ):
        rgb.wrap(*random_llava(0, layers=2), name="odd")


def test_positions_that_differ_between_the_pictures_of_a_batch_are_refused(monkeypatch):
    """As of HunyuanVL in transformers 5.24, which numbers the pictures of a batch."""
    own = hf.Qwen2VLModel.get_rope_index

    def counted_on(*given, **named):
        places, deltas = own(*given, **named)
        return places * torch.arange(1, 1 + places.shape[1])[:, None], deltas

    module, processor = families.built("qwen2_vl")
    monkeypatch.setattr(hf.Qwen2VLModel, "get_rope_index", counted_on)
    with pytest.raises(rgb.InputError, match="depend on which pictures it is shown together"):
        rgb.wrap(module, processor, name="counted", tiles=6)


def test_attention_of_another_form_is_told_by_how_much(grouped):
    with pytest.raises(rgb.InputError, match="attention in layer 1 .* by 0.3 of the largest"):
        checks.check_attention(grouped, [0.0, 0.3])
    with pytest.raises(rgb.InputError, match="by 0.01 of the largest"):
        checks.check_attention(grouped, [0.0, 0.01])
    checks.check_attention(grouped, [0.0, 5e-5])


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_rounding_of_scores_as_large_as_qwens_is_no_other_attention(kernel):
    module, processor = random_llava(layers=2, heads=2, kv_heads=2, d_head=64, width=128, grid=12)
    for layer in module.model.language_model.layers:
        for part in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            # Places that rotary angles hardly turn, so that all keys are liked alike.
            bias = torch.zeros(2, 2, 32)
            bias[..., -4:] = 100.0
            part.bias = torch.nn.Parameter(bias.flatten())
    module.set_attn_implementation(kernel)
    model = rgb.wrap(module, processor, name="biased")
    trials = rgb.rgb_trials(model, 1)
    assert 1e-4 < model.rounding < 1e-2
    inputs = encode(model, [(trials[0], "clean")])
    with torch.no_grad():
        captured = capture(model.nnsight, (2, 64), inputs, 0, ["attention"])
    assert (max(attention_gaps(captured)) > 1e-4) == (kernel == "eager")
    checks.check_attention(model, attention_gaps(captured))


def test_a_picture_or_table_that_git_lfs_has_not_fetched_is_named(tmp_path):
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1234567\n"
    (tmp_path / "a.png").write_text(pointer)
    table = tmp_path / "pairs.csv"
    table.write_text("name,question,clean,answer:right\nx,Which?,a.png,red\n")
    with pytest.raises(rgb.InputError, match="a.png is a Git LFS pointer .*run git lfs pull"):
        rgb.read_trials(table)
    table.write_text(pointer)
    with pytest.raises(rgb.InputError, match="pairs.csv is a Git LFS pointer .*run git lfs pull"):
        rgb.read_trials(table)
