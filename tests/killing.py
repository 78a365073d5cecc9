"""Runs that are killed again and again until they are done. A script, since it forks: python
killing.py FOLDER KILLS SEED

Every attempt is a fork of this process, which has the model loaded already. ``FOLDER/undisturbed``
is a run that nobody killed; the others were killed, and then finished.
Prints as JSON: ``runs``, ``progress`` (share of all parts that were written, at each kill),
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
from rgb_circuit.models.planted import planted

OPTIONS = dict(trials="6", seed=0, positions="end", only_correct=False, device="auto", dtype="auto")


def start(folder, model, trials):
    """A run in a process of its own; returns its id."""
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
        # No clean-up of the process that was forked.
        os._exit(status)


def done(child):
    """Wait for a run's end; whether it was not killed."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), f"a run failed in {child}"
    return status == 0


def written(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob("parts/*/[!.]*.parquet")}


def wait_for(folder, parts, child):
    """Until so many parts are written, or the run has ended."""
    while sum(1 for _ in folder.glob("parts/*/[!.]*.parquet")) < parts and not ended(child):
        time.sleep(0.01)


def ended(child):
    """Whether a process has ended; it is still to be waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def main(folder, kills, seed):
    torch.set_num_threads(1)
    matplotlib.use("Agg")
    # A thread would not survive a fork, and its locks would.
    tqdm.monitor_interval = 0
    # Its own lock is shared by forks, and one that is killed would keep it for ever.
    tqdm.set_lock(threading.RLock())
    runs.undrawn(pytest.MonkeyPatch())
    model = rgb.wrap(*planted(grid=3, layers=4, decoys=())[:2], name="planted")
    trials = rgb.rgb_trials(model, int(OPTIONS["trials"]))

    # Here rather than in a fork, so that forks find everything imported.
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
                # By what is written, not by the clock, which a busy machine stretches.
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
