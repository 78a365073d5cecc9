"""The RGB game as a task: `rgb.toml`, and what draws its pictures."""

from dataclasses import replace
from pathlib import Path

from ..rgb_game import PALETTE, draw
from .task_file import read_task

TASK = replace(read_task(Path(__file__).with_suffix(".toml")), vocabulary=dict(PALETTE), draw=draw)
