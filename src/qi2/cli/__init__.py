"""The command ``qi2``: draw, edit, evaluate, look at the world, at data and at autoencoders, exchange models, judge images by rewards, plan a
training run, vote, and feed failures back."""

import argparse
import sys
from collections.abc import Sequence

from qi2.cli import arena, data, draw, evaluate, feedback, flywheel, models, reward
from qi2.core.errors import QI2Error


def build_parser() -> argparse.ArgumentParser:
    """The parser of all sub-commands."""
    parser = argparse.ArgumentParser("qi2", description="An open production line for an omni image model. `make help` runs the line itself.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in (draw, data, evaluate, models, reward, arena, feedback, flywheel):
        group.add_commands(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; a QI2Error is printed without a traceback and ends with status 1."""
    args = build_parser().parse_args(argv)
    try:
        args.run(args)
    except QI2Error as error:
        print(f"qi2: {error}", file=sys.stderr)
        return 1
    return 0
