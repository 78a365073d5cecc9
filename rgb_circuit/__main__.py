"""``python -m rgb_circuit`` is the command ``rgb-circuit``."""

import sys
from importlib.metadata import distribution


def main() -> int:
    """Run the command that this package is installed with, found by its entry point: `analyses`,
    which holds the command, is not imported from here."""
    (command,) = distribution("rgb_circuit").entry_points.select(
        group="console_scripts", name="rgb-circuit"
    )
    return command.load()()


if __name__ == "__main__":
    sys.exit(main())
