"""``rgb-circuit compare``."""

from argparse import Namespace
from typing import TYPE_CHECKING

import shtab

from rgb_circuit.errors import InputError
from rgb_circuit.files.results import opened, read_frame, write_figure, write_frame

from .arguments import Commands, add_folder, quiet_parent

if TYPE_CHECKING:
    import pandas as pd


def add_to(commands: Commands) -> None:
    """Add the subcommand, with its arguments."""
    parser = commands.add_parser(
        "compare",
        parents=[quiet_parent()],
        help="does a run agree with the published heatmaps of LLaVA-1.5-7B, or with another run?",
        description=_compare.__doc__,
    )
    add_folder(
        parser,
        "folder of a run, to compare with the published heatmaps, or of two runs, to compare "
        "with each other "
        "(default: results)",
        "folders",
        nargs="*",
        metavar="folder",
    )
    parser.add_argument(
        "--top",
        type=int,
        default=10,
        help="how many of the strongest heads to look for in both (default: %(default)s)",
    )
    parser.add_argument(
        "--page",
        metavar="FILE.html",
        help="for two runs: also write a page that compares them, and a table of the differences "
        "head by head; the models may have different shapes",
    ).complete = shtab.FILE  # type: ignore[attr-defined]
    add_folder(parser, "for the table and the figure (default: the run's)", "--out")
    parser.set_defaults(run=_compare)


def _compare(options: Namespace) -> None:
    """Hold a run against the published heatmaps of LLaVA-1.5-7B, or two runs against each other,
    head by head; the (first) run's folder gets a table, and of the heatmaps a figure."""
    folders = options.folders or ["results"]
    if len(folders) > 2:
        raise InputError(
            f"{len(folders)} folders were given; compare one run with the heatmaps, or two runs"
        )
    if len(folders) == 2:
        _with_another(folders[0], folders[1], options)
    elif options.page:
        raise InputError(
            f"--page sets two runs side by side, and {folders[0]} is one; give the folder of the "
            "other behind it"
        )
    else:
        _with_the_published(folders[0], options)


def _with_another(first: str, second: str, options: Namespace) -> None:
    from ..report import two_runs

    if options.page:
        two_runs.check_page(options.page)
    comparison = two_runs.two_runs(first, second) if options.page else None
    if comparison and comparison.other_heads:
        print(f"A: {first}\nB: {second}\n\n{comparison.other_heads}")
    else:
        table = _agreement(first, second, options)
        with opened(options.out or first) as folder:
            print(f"\nWrote {write_frame(table, folder, 'compare_runs')}")
            if comparison and comparison.compared:
                print(f"Wrote {write_frame(comparison.compared.heads, folder, 'compare_heads')}")
    if comparison:
        print(f"\n{two_runs.verdict(comparison)}")
        print(f"Wrote {two_runs.drawn(comparison, options.page).page}")


def _agreement(first: str, second: str, options: Namespace) -> "pd.DataFrame":
    """Print how far two runs with the same heads agree."""
    from rgb_circuit.calls.compare_runs import compare_runs
    from rgb_circuit.calls.panels import LEAST_SAID
    from rgb_circuit.keeping.saved_run import read_run
    from rgb_circuit.keeping.shared_trials import shared_trials

    from ..report import digits

    runs = read_run(first), read_run(second)
    table = compare_runs(*runs, k=options.top)
    effects, roles = (table[table["compared"] == kind] for kind in ("effects", "role"))
    correlations = ["pearson", "pearson_low", "pearson_high", "ceiling", "disattenuated"]
    shown = effects[["name", *correlations, "in_a", "in_b", "shared", "by_chance"]].reset_index(
        drop=True
    )
    numbers = digits.table(shown[[*correlations, "by_chance"]])
    shared = shared_trials(*runs)
    print(f"A: {first}\nB: {second}\n{shared.says}\n")
    print(f"Agreement of mean effects over {effects['heads'].iloc[0]} heads:")
    print(shown.assign(**{name: numbers[name] for name in numbers}).to_string(index=False))
    noise = (
        "Runs on the same trials may share noise, so a correlation (pearson) may exceed the "
        "ceiling, which is for separate trials"
        if shared.paired
        else "The noise of single trials keeps a correlation (pearson) below the ceiling"
    )
    print(
        f"{noise}; disattenuated is the correlation corrected for that noise. in_a, in_b and "
        f"shared count at most {options.top} heads, with effects of {LEAST_SAID} or more."
    )
    if len(roles):
        names = ["name", "in_a", "in_b", "shared", "both", "only_a", "only_b"]
        print(f"\nRoles:\n{roles[names].to_string(index=False)}")
    return table


def _with_the_published(run: str, options: Namespace) -> None:
    from rgb_circuit.keeping.manifest import read_manifest

    from ..report import digits
    from ..rgb import published as compare

    columns = [
        "trial",
        "source",
        "component",
        "positions",
        "target",
        "layer",
        "head",
        "role",
        "effect",
    ]
    frame, manifest = read_frame(run, "patch_heads", columns), read_manifest(run)
    table = compare.compare(frame, k=options.top)
    misread, differing = compare.misreadings(frame), compare.differences(frame, manifest)

    print(
        f"{manifest['model']} and the published heatmaps of LLaVA-1.5-7B, over "
        f"{table['heads'].iloc[0]} heads:"
    )
    agreement = digits.table(table[["pearson", "spearman"]])
    print(
        table[["panel"]]
        .join(agreement)
        .join(table[["shared", "k", "shared_heads"]])
        .to_string(index=False)
    )
    print(
        "Published values are rounded to steps, so even exact agreement would give a rank "
        "correlation (spearman) of about 0.9."
    )
    print("\nThe published text misreads its figures twice; effects in logits:")
    effects = {name: digits.table(misread[[name]]) for name in ("published", "run")}
    print(misread.assign(**effects).to_string(index=False))
    if len(differing):
        print(
            "\nThis run differs from the published setting, so the same numbers are not expected:"
        )
        print(differing.to_string(index=False))
    with opened(options.out or run) as folder:
        write_frame(table, folder, "compare")
        write_figure(compare.scatters(frame, manifest["model"], k=options.top), folder, "compare")
    print(f"\nWrote compare.parquet and compare.png to {folder}/")
