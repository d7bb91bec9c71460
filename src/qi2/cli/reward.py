"""``qi2 reward``: let the trained reward models judge images, and measure them on judgements."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.errors import QI2Error

if TYPE_CHECKING:
    from qi2.rewards.score import RewardModels


def score(args: argparse.Namespace) -> None:
    """qi2 reward score IMAGE|FOLDER ... --out FILE"""
    from qi2.rewards.folder import choose, find_items, score_items, write_rows

    items = find_items(args.images, args.prompt, args.prompts, args.source)
    names = choose(items, args.rewards)
    rows = score_items(_load(args, names), items, names)
    write_rows(rows, args.out)
    for name in names:
        values = [value for row in rows if isinstance(value := row[name], float)]
        print(f"{name:<12} mean {sum(values) / len(values):+.3f} of {len(values)} images")
    print(args.out)


def evaluate(args: argparse.Namespace) -> None:
    """qi2 reward evaluate TABLE"""
    from qi2.evaluation.bootstrap import Bootstrap
    from qi2.evaluation.reward_table import evaluate_command
    from qi2.rewards.config import RewardsConfig

    asked = dict(item.split("=", 1) for item in args.dimensions)
    config = RewardsConfig(pairs=str(args.table), format=args.format, images=str(args.images or ""), dimensions=asked, min_confidence=args.min_confidence)
    print(evaluate_command(_load(args, args.rewards), config, Bootstrap(args.seed, args.resamples), args.out))
    if args.out:
        print(args.out)


def _load(args: argparse.Namespace, names: list[str]) -> "RewardModels":
    from qi2.rewards.score import RewardModels

    folder = args.model or _newest()
    return RewardModels.load(folder / "rewards", args.vlm or folder / "standins" / "vlm", names, args.device)


def _newest(root: Path = Path("runs")) -> Path:
    found = sorted(root.glob("*/rewards/metrics.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise QI2Error(f"no trained rewards under {root.resolve()}; train them with `make reproduce STAGE=rewards`, or name a folder with --model")
    return found[-1].parents[1]


def add_commands(commands: "argparse._SubParsersAction") -> None:
    """The parsers of this file's commands."""
    group = commands.add_parser("reward", help="let reward models judge images, or measure them").add_subparsers(required=True, metavar="COMMAND")
    one = _command(group, "score", score, "calibrated scores of images by every reward that can judge them; higher is better")
    one.add_argument("images", nargs="+", type=Path, metavar="IMAGE|FOLDER")
    one.add_argument("--prompt", help="what all of them were asked to show; by default the first line of the .txt beside an image")
    one.add_argument("--prompts", type=Path, metavar="TABLE", help="image, prompt and, for edits, source: .jsonl, .json, .csv, .tsv or .parquet")
    one.add_argument("--source", type=Path, metavar="IMAGE", help="the picture that all of them edit")
    one.add_argument("--out", type=Path, default=Path("rewards.csv"), help="a .csv, or a .json")
    two = _command(group, "evaluate", evaluate, "accuracy, ties and calibration error on a table of judgements, with intervals over prompts")
    two.add_argument("table", type=Path, metavar="TABLE", help="as rewards.pairs: our formats, or EditReward's, HPDv2's, HPDv3's, ImageReward's, VideoAlign's")
    two.add_argument("--format", default="", help="of the table, where its columns do not tell")
    two.add_argument("--images", type=Path, help="folder that the table's paths start from; its own by default")
    two.add_argument("--dimensions", nargs="*", default=[], type=_mapped, metavar="QUESTION=REWARD", help="for which reward a question of the table counts")
    two.add_argument("--min-confidence", type=float, default=0.0, help="leave rows out whose annotators agreed less")
    two.add_argument("--seed", type=int, default=0, help="of the intervals")
    two.add_argument("--resamples", type=int, default=1000)
    two.add_argument("--out", type=Path, help="also write the figures to this .json or .csv")


def _mapped(text: str) -> str:
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"{text} is not QUESTION=REWARD, for example overall=aesthetic")
    return text


def _command(group: "argparse._SubParsersAction", name: str, run: object, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = group.add_parser(name, help=text)
    parser.add_argument("--model", type=Path, help="runs/SCALE or a registered bundle: a folder with rewards and standins/vlm; the newest run by default")
    parser.add_argument("--vlm", type=Path, help="folder of the Qwen3-VL that they were trained on, where it is not in MODEL/standins/vlm")
    parser.add_argument("--rewards", nargs="+", default=[], metavar="NAME", help="aesthetic alignment portrait instruction consistency; all by default")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.set_defaults(run=run)
    return parser
