"""Arguments that several subcommands share: quietness, model and trials, folders."""

import tomllib
from argparse import Action, ArgumentParser, _SubParsersAction
from pathlib import Path
from typing import TypeAlias

import shtab

import rgb_circuit

# Help of --model.
MODEL = (
    "toy, planted, talker, a folder, or a hub id (default: toy where it knows the task's words, "
    "else talker)"
)

# The type of argparse's subcommands.
Commands: TypeAlias = "_SubParsersAction[ArgumentParser]"

# The game's drawn roles → help for each role's word. Read from the task's file, since the package
# that reads tasks imports numpy, which --help does not need.
_GAME = Path(rgb_circuit.__file__).parent / "stimuli" / "tasks" / "rgb.toml"
DRAWN = {
    role: about
    for role, about in tomllib.loads(_GAME.read_text(encoding="utf-8"))["roles"].items()
    if isinstance(about, str)
}

# Options that choose model and trials, and so exclude a run's folder.
ABOUT_TRIALS = (
    "model", "task", "trials", "trials_file", "columns", "seed", "dtype", "revision", "tiles",
    "remote", "fix",
)  # fmt: skip


def quiet_parent() -> ArgumentParser:
    """A parent for subcommands' parsers: ``--quiet``."""
    parser = ArgumentParser(add_help=False)
    parser.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        help="show no progress bars, and print nothing that is also written to a file",
    )
    return parser


def trials_parent() -> ArgumentParser:
    """A parent for subcommands' parsers: ``--quiet``, and the choice of model and trials.
    ``drawn`` holds the defaults of `ABOUT_TRIALS`."""
    parser = ArgumentParser(add_help=False, parents=[quiet_parent()])
    parser.add_argument(
        "--model",
        help=MODEL,
    )
    parser.add_argument(
        "--task",
        metavar="NAME | FILE.toml | MODULE:NAME",
        action=_Task,
        help="the task: one that rgb-circuit tasks lists, a file, or a Task in Python; append "
        ":template=short to ask in another way; run takes several, each with its own --task "
        "(default: the RGB game, or with a trials file its own pictures)",
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument(
        "--trials",
        default="32",
        help="how many trials to draw, or 'published' for the published stimulus (default: "
        "%(default)s)",
    )
    shown.add_argument(
        "--trials-file",
        metavar="FILE",
        help="your own pictures, question and answers: a CSV, or a folder with one (columns: see "
        "rgb_circuit/trials_file.py); with --columns any table",
    ).complete = shtab.FILE  # type: ignore[attr-defined]
    parser.add_argument(
        "--columns",
        metavar="FILE.toml",
        help="how to read a table with other columns (CSV, TSV, JSON, JSONL, Parquet): the "
        "arguments of rgb.trials_from, and in [pair] those of rgb.pair",
    ).complete = shtab.FILE  # type: ignore[attr-defined]
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the trials (default: %(default)s)"
    )
    parser.add_argument(
        "--fix",
        metavar="ROLE=WORD",
        action=_Fixed,
        default={},
        help="fix the word of a role in every drawn trial, such as number=3, or the way of asking, "
        "such as template=short; may be given several times (default: words are drawn so that all "
        "are used, and the plain template asks)",
    )
    for role, says in DRAWN.items():
        option = f"--{role.replace('_', '-')}"
        parser.add_argument(
            option,
            metavar="WORD",
            action=_Fixed,
            dest="fix",
            default={},
            help=f"{says}, as --fix {role}=",
        )
    add_loading(parser)
    drawn = {name: parser.get_default(name) for name in ABOUT_TRIALS}
    parser.set_defaults(drawn=drawn, tasks=())
    return parser


def add_loading(parser: ArgumentParser) -> None:
    """Add the arguments for loading a model."""
    parser.add_argument(
        "--device",
        default="auto",
        help="cpu, cuda, cuda:1, or auto to use the available GPUs (default: %(default)s)",
    )
    parser.add_argument(
        "--dtype",
        default="auto",
        help="float32, float16, bfloat16, or the checkpoint's own (default: %(default)s)",
    )
    parser.add_argument("--revision", help="revision of a hub repository")
    parser.add_argument(
        "--tiles",
        type=int,
        help="tiles per side of the game's pictures, for a model that takes pictures of any size "
        "(default: as the trials file says, or 24, or the nearest number that its processor does "
        "not resize)",
    )
    parser.add_argument(
        "--remote",
        metavar="URL",
        nargs="?",
        const=True,
        default=False,
        help="run on an NDIF server: the given URL, or without one that of NDIF_HOST; the key is "
        "read from NDIF_API_KEY",
    )


def add_folder(parser: ArgumentParser, what: str, name: str = "folder", **options) -> None:
    """Add an argument for a folder, with completion in a shell."""
    parser.add_argument(
        name, help=f"folder {what}" if name == "--out" else what, **options
    ).complete = shtab.DIRECTORY  # type: ignore[attr-defined]


class _Task(Action):
    """``task`` is the last task named, ``tasks`` are all of them."""

    def __call__(self, parser, options, value, option=None):
        options.task, options.tasks = value, (*options.tasks, value)


class _Fixed(Action):
    """Role → word, from ``--fix ROLE=WORD`` and from the options named after the game's roles."""

    def __call__(self, parser, options, value, option=None):
        role, equals, word = (
            value.partition("=") if option == "--fix" else (_role(option), "=", value)
        )
        if not (role and equals and word):
            parser.error(
                f"argument --fix: {value!r} is no ROLE=WORD; write it like --fix right=red"
            )
        options.fix = {**options.fix, role: word}


def _role(option):
    return option.removeprefix("--").replace("-", "_")


def option_of(role: str) -> str:
    """The option, up to its value, that sets a role's word: ``--odd`` for a role of the game, else
    ``--fix right=``."""
    return f"--{role.replace('_', '-')} " if role in DRAWN else f"--fix {role}="
