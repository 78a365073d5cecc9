"""What is held in memory at once is bounded, and what is freed goes back."""

import platform
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
import torch

from rgb_circuit.running.memory import MOST_BYTES, held_at_once, pictures_at_once, rows_at_once


def shaped(layers, heads, d_head, width, mlp, vocabulary):
    """What `memory` asks of a model of some shape in half precision, without its weights."""
    text = SimpleNamespace(hidden_size=width, intermediate_size=mlp, vocab_size=vocabulary)
    module = torch.nn.Linear(1, 1)
    return SimpleNamespace(
        config=SimpleNamespace(text_config=text), dtype=torch.bfloat16, server=None,
        n_layers=layers,
        n_heads=heads, n_kv_heads=heads, d_head=d_head,
        nnsight=SimpleNamespace(device=torch.device("cpu"), _module=module),
    )  # fmt: skip


LLAVA_7B = shaped(32, 32, 128, 4096, 11008, 32064)
KEYS_AND_VALUES = 2 * 32 * 4096 * 601 * 2


@pytest.fixture
def plenty(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**40))


def test_pictures_of_a_large_model_are_captured_by_the_pair_however_much_is_free(plenty):
    at_once = pictures_at_once(LLAVA_7B, 601, 600)
    assert at_once == 2 and 2 * at_once * KEYS_AND_VALUES < MOST_BYTES["cpu"]
    assert 1 <= rows_at_once(LLAVA_7B, 601, 0) <= 4 and rows_at_once(LLAVA_7B, 601, 600) == 256


def test_an_mlp_whose_width_is_not_said_or_differs_by_layer_is_taken_to_be_wide(plenty):
    rows = {
        mlp: rows_at_once(shaped(32, 32, 128, 4096, mlp, 32064), 601, 0)
        for mlp in (None, (1024, 16384), 16384)
    }
    assert len(set(rows.values())) == 1


def test_pictures_of_a_small_model_are_captured_by_the_dozen(plenty):
    assert pictures_at_once(shaped(4, 4, 8, 32, 64, 40), 55, 54) == 2560 // 55


def test_where_little_is_free_one_picture_is_captured_at_a_time(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**20))
    assert pictures_at_once(LLAVA_7B, 601, 600) == rows_at_once(LLAVA_7B, 601, 600) == 1


def test_pictures_are_held_for_later_trials_as_far_as_memory_goes(plenty, monkeypatch):
    held = held_at_once(LLAVA_7B, 601, 600)
    assert held == 5 and held * KEYS_AND_VALUES < MOST_BYTES["cpu"] < 2 * held * KEYS_AND_VALUES
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**30))
    assert held_at_once(LLAVA_7B, 601, 600) == 0
    assert held_at_once(shaped(4, 4, 8, 32, 64, 40), 55, 54) > 100


HOLES = """
import psutil, torch
from rgb_circuit.running.memory import return_freed_memory
if {returned}:
    return_freed_memory()
# glibc learns from what is freed to keep the like of it.
for _ in range(3):
    torch.ones(7 * 2**20)
kept = [torch.ones(2**20) for _ in range(64)]
before = psutil.Process().memory_info().rss
del kept[::2]
print((before - psutil.Process().memory_info().rss) / 2**22)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has other habits")
@pytest.mark.parametrize("returned", [True, False])
def test_what_is_freed_between_what_stays_goes_back(returned):
    code = HOLES.format(returned=returned)
    given_back = float(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
    )
    # Of 32 tensors that were freed.
    assert given_back > 30 if returned else given_back < 10
