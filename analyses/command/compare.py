"""``rgb-circuit compare``."""

from argparse import Namespace

from rgb_circuit.files.results import opened, read_frame, write_figure, write_frame

from .arguments import Commands, add_folder, quiet_parent


def add_to(commands: Commands) -> None:
    """Add the subcommand, with its arguments."""
    parser = commands.add_parser(
        "compare",
        parents=[quiet_parent()],
        help="does a run agree with the published heatmaps of LLaVA-1.5-7B?",
        description=_compare.__doc__,
    )
    add_folder(parser, "of a run (default: %(default)s)", nargs="?", default="results")
    parser.add_argument(
        "--top",
        type=int,
        default=10,
        help="how many of the strongest heads to look for in both (default: %(default)s)",
    )
    add_folder(parser, "for the table and the figure (default: the run's)", "--out")
    parser.set_defaults(run=_compare)


def _compare(options: Namespace) -> None:
    """Hold a run against the published heatmaps of LLaVA-1.5-7B, head by head; its folder gets a
    table and a figure."""
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
    frame, manifest = (
        read_frame(options.folder, "patch_heads", columns),
        read_manifest(options.folder),
    )
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
        "Published values come in steps, so that exact agreement would give a rank correlation "
        "(spearman) of about 0.9."
    )
    print("\nThe published text misreads its figures twice; effects in logits:")
    effects = {name: digits.table(misread[[name]]) for name in ("published", "run")}
    print(misread.assign(**effects).to_string(index=False))
    if len(differing):
        print(
            "\nThis run was not made in the published setting, and is not expected to give the "
            "same numbers:"
        )
        print(differing.to_string(index=False))
    with opened(options.out or options.folder) as folder:
        write_frame(table, folder, "compare")
        write_figure(compare.scatters(frame, manifest["model"], k=options.top), folder, "compare")
    print(f"\nWrote compare.parquet and compare.png to {folder}/")
