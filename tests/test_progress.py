"""The bar of a measurement tells shares of a trial, since one of a large model takes minutes."""

import io
import sys

import pytest
from tqdm.auto import tqdm

import rgb_circuit as rgb
import rgb_circuit.measuring.measure
from analyses.command import main
from rgb_circuit.calls.patching import PatchedHeads
from rgb_circuit.keeping.store import open_store


@pytest.fixture
def steps(monkeypatch):
    """By how much bars went on, in order."""
    noted = []

    class Noted(tqdm):
        def update(self, n=1):
            noted.append(n)
            return super().update(n)

    monkeypatch.setattr(rgb_circuit.measuring.measure, "tqdm", Noted)
    return noted


@pytest.mark.parametrize("stored", [False, True], ids=["by itself", "in a store"])
@pytest.mark.parametrize("positions", ["end", "all"])
def test_shares_of_a_trial_add_up_to_the_trials(grouped, steps, stored, positions, tmp_path):
    trials = rgb.rgb_trials(grouped, 3)
    asked = [
        PatchedHeads.of(grouped, trials, "clean", target, positions=positions)
        for target in ("erased", "recolored")
    ]
    store = open_store(tmp_path / "run", {"model": grouped.name}) if stored else None
    rgb_circuit.measuring.measure.measure(grouped, asked, store)
    assert sum(steps) == pytest.approx(3)
    assert min(steps) > -1e-9
    # The pictures, and each sweep; without a store all trials go through together.
    assert max(steps) < (0.5 if stored else 1.5)
    assert len([step for step in steps if step > 0.01]) >= (5 * 3 if stored else 5)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_says_what_is_waited_for_and_nothing_of_it_is_left(monkeypatch, capsys):
    command = ["play", "--trials", "1"]
    assert main(command) == 0
    printed = capsys.readouterr()
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert main(command) == 0
    shown = [part for part in terminal.getvalue().split("\r\x1b[K") if part]
    assert shown[:2] == ["starting …", "loading toy …"] and terminal.getvalue().endswith("\x1b[K")
    # Where no terminal is there are no such lines, and what is printed is the same.
    assert capsys.readouterr().out == printed.out and "…" not in printed.err
