"""Runs that are killed again and again until they are done. A script, since it forks: python
killing.py FOLDER KILLS SEED

Every attempt is a fork of this process, which has already loaded the model. ``FOLDER/undisturbed``
is a run without kills; the others were killed, and then finished.
Prints JSON: ``runs``, ``progress`` (share of all parts that were written, at each kill),
``repeated`` (finished parts that were written again).
"""

import json
import os
import random
import signal
import sys
import threading
import time
from contextlib import redirect_stdout
from pathlib import Path

import matplotlib
import pytest
import runs
import torch
from tqdm.auto import tqdm

import rgb_circuit as rgb
from analyses import study
from rgb_circuit.files.locking import locked
from rgb_circuit.files.results import open_folder

OPTIONS = dict(trials="6", seed=0, positions="end", only_correct=False, device="auto", dtype="auto")


def start(folder, model, trials):
    """Start a run in a fork; returns its process id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        with locked(open_folder(folder)):
            study.run(folder, model, trials, OPTIONS)
        status = 0
    finally:
        # Skip the clean-up inherited from the parent.
        os._exit(status)


def done(child):
    """Wait for a run's end; returns whether it finished, rather than being killed."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), f"a run failed in {child}"
    return status == 0


def written(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob("parts/*/[!.]*.parquet")}


def wait_for(folder, parts, child):
    """Wait until this many parts are written, or the run has ended."""
    while sum(1 for _ in folder.glob("parts/*/[!.]*.parquet")) < parts and not ended(child):
        time.sleep(0.01)


def ended(child):
    """Whether a process has ended; leaves it to be waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def main(folder, kills, seed):
    torch.set_num_threads(1)
    matplotlib.use("Agg")
    # Start no thread: it would not survive a fork, but its locks would.
    tqdm.monitor_interval = 0
    # tqdm's default lock is shared by forks, and a killed one would hold it forever.
    tqdm.set_lock(threading.RLock())
    runs.undrawn(pytest.MonkeyPatch())
    model = rgb.wrap(*runs.small_model(), name="planted")
    trials = rgb.rgb_trials(model, int(OPTIONS["trials"]))

    # Run this one here rather than in a fork, so that forks inherit all imports.
    with locked(open_folder(folder / "undisturbed")), redirect_stdout(sys.stderr):
        study.run(folder / "undisturbed", model, trials, OPTIONS)
    n_parts = len(written(folder / "undisturbed"))

    rng, attempted, progress, repeated = random.Random(seed), 0, [], 0
    while len(progress) < kills:
        attempted += 1
        here, seen, over = folder / f"killed-{attempted}", {}, False
        while not over:
            child = start(here, model, trials)
            if len(progress) < kills:
                # Time the kill by parts written, not by the clock, which varies with the load.
                wait_for(here, len(seen) + rng.uniform(0, 0.4 * n_parts), child)
                time.sleep(rng.uniform(0, 0.02))
                os.kill(child, signal.SIGKILL)
            over = done(child)
            now = written(here)
            repeated += sum(now[path] != when for path, when in seen.items())
            seen = now
            if not over:
                progress.append(round(len(now) / n_parts, 3))
    print(json.dumps({"runs": attempted, "progress": progress, "repeated": repeated}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
