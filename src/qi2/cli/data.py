"""``qi2 world`` and ``qi2 data``: look at the procedural world and at data, and caption it."""

import argparse
from pathlib import Path

from qi2.cli.images import save


def world(args: argparse.Namespace) -> None:
    """qi2 world --out FILE"""
    from qi2.data.world.edits import ALL_EDIT_KINDS
    from qi2.data.world.scene import KINDS
    from qi2.data.world.sheet import sheet

    save([sheet(args.kinds or [*KINDS, *ALL_EDIT_KINDS], args.n, args.size, args.seed)], args.out)


def inspect(args: argparse.Namespace) -> None:
    """qi2 data inspect SOURCE --out FILE"""
    from qi2.data.config import DataConfig
    from qi2.data.inspect import inspect
    from qi2.data.sources import source_kind

    found, page = inspect(args.source, Path(DataConfig().cache), args.limit, args.n)
    if not args.source.startswith("s3://"):
        print(f"source          {source_kind(args.source)}")
    print("\n".join(found.lines()))
    save([page], args.out)


def pages(args: argparse.Namespace) -> None:
    """qi2 data pages --out FILE"""
    from qi2.data.pages.fonts import drawable
    from qi2.data.pages.kinds import KINDS
    from qi2.data.pages.sheet import sheet

    folders = tuple(args.fonts)
    save([sheet(args.kinds or list(KINDS), args.languages or drawable(folders), args.size, args.seed, folders)], args.out)


def edits(args: argparse.Namespace) -> None:
    """qi2 data edits --out FILE"""
    from qi2.data.edits.sheet import bundled, sheet

    save([sheet(bundled(), args.kinds, args.size, args.seed)], args.out)


def caption(args: argparse.Namespace) -> None:
    """qi2 data caption RAW --model PATH --out DIR"""
    from qi2.data.captions.command import caption_command
    from qi2.data.captions.config import CaptionConfig

    named = ("schemes", "languages", "lengths", "text_variants", "one_each", "templates", "batch_size", "max_tokens", "retries", "seed", "device")
    config = CaptionConfig(path=args.model, **{name: getattr(args, name) for name in named if getattr(args, name) is not None})
    print(caption_command(args.raw, config, args.out, args.facts, args.limit, args.evaluate))


def add_commands(commands: "argparse._SubParsersAction") -> None:
    """The parsers of this file's commands."""
    sheet = commands.add_parser("world", help="a sheet of the procedural world's pictures with their captions")
    sheet.add_argument("--kinds", nargs="*", default=[], help="scene or edit kinds; all by default")
    sheet.add_argument("-n", type=int, default=6, help="pictures per kind")
    sheet.add_argument("--size", type=int, default=64)
    sheet.add_argument("--seed", type=int, default=0)
    sheet.add_argument("--out", type=Path, default=Path("world.png"))
    sheet.set_defaults(run=world)
    data = commands.add_parser("data", help="look at data").add_subparsers(required=True, metavar="COMMAND")
    source = data.add_parser("inspect", help="what a source holds, and a sheet of its pictures; of a bucket, the objects are fetched first")
    source.add_argument("source", help="as data.source: folder, table, tar shards, datasets folder, or s3://BUCKET/PREFIX")
    source.add_argument("--limit", type=int, default=0, help="rows to read; 0: all")
    source.add_argument("-n", type=int, default=24, help="pictures on the sheet")
    source.add_argument("--out", type=Path, default=Path("source.png"))
    source.set_defaults(run=inspect)
    page = data.add_parser("pages", help="a sheet of synthetic pages of text: a row per language that this machine has fonts for, a column per kind")
    page.add_argument("--kinds", nargs="*", default=[])
    page.add_argument("--languages", nargs="*", default=[])
    page.add_argument("--size", type=int, default=256)
    page.add_argument("--seed", type=int, default=0)
    page.add_argument("--fonts", nargs="*", default=[], help="folders to look into beside the usual ones")
    page.add_argument("--out", type=Path, default=Path("pages.png"))
    page.set_defaults(run=pages)
    pair = data.add_parser("edits", help="a sheet of the editing pairs that are made from photographs: references, target, mask, instruction")
    pair.add_argument("--kinds", nargs="*", default=[])
    pair.add_argument("--size", type=int, default=160)
    pair.add_argument("--seed", type=int, default=0)
    pair.add_argument("--out", type=Path, default=Path("edits.png"))
    pair.set_defaults(run=edits)
    _caption_command(data)


def _caption_command(data: "argparse._SubParsersAction") -> None:
    """What is left out keeps the default of CaptionConfig."""
    parser = data.add_parser("caption", help="caption the shards that ingest wrote with a Qwen3-VL, or exactly where the scene is known")
    parser.add_argument("raw", type=Path, metavar="RAW", help="folder with sidecar.parquet, e.g. runs/tiny/raw")
    parser.add_argument("--model", required=True, help="folder or hub id of a Qwen3-VL, URL#MODEL of a served one, or truth for the world's exact captions")
    parser.add_argument("--out", type=Path, required=True, help="folder for captions.parquet and metrics.json")
    for name, text in (("schemes", "general text knowledge structured"), ("languages", "en de zh ..."), ("lengths", "short medium long")):
        parser.add_argument(f"--{name}", nargs="+", help=text)
    parser.add_argument("--text-variants", nargs="+", help="plain slide comic poster education, or own templates text.NAME.txt")
    parser.add_argument("--one-each", action="store_true", default=None, help="one language, length and variant per row, drawn by its id")
    parser.add_argument("--templates", help="folder of prompt templates that replace those of the same name")
    parser.add_argument("--facts", type=Path, help='lines of {"id": ..., "facts": ...} for knowledge captions; else the row\'s own caption and origin')
    parser.add_argument("--limit", type=int, default=0, help="rows to caption; 0: all")
    parser.add_argument("--evaluate", action="store_true", help="measure the captions of rows whose scene is known")
    for name in ("batch-size", "max-tokens", "retries", "seed"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--device", help="cpu or cuda")
    parser.set_defaults(run=caption)
