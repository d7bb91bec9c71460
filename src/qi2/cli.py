"""The command ``qi2``: draw, edit, look at the world, at data and at autoencoders, and plan a training run."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from qi2.core.errors import QI2Error


def generate(args: argparse.Namespace) -> None:
    """qi2 generate PROMPT --out FILE"""
    from qi2.pipeline import Pipeline

    pipe = Pipeline.load(args.model, args.stage)
    images = pipe.generate([args.prompt] * args.n, list(range(args.seed, args.seed + args.n)), args.size, args.steps, args.guidance)
    _save(images, args.out)


def edit(args: argparse.Namespace) -> None:
    """qi2 edit IMAGE [IMAGE ...] INSTRUCTION --out FILE"""
    from PIL import Image

    from qi2.pipeline import Pipeline

    missing = [name for name in args.images if not Path(name).exists()]
    if missing or not args.images:
        raise QI2Error(f'no image {missing[0] if missing else "given"}; write qi2 edit IN.png [IN2.png ...] "INSTRUCTION" --out OUT.png')
    pipe = Pipeline.load(args.model, args.stage)
    references = [Image.open(name) for name in args.images]
    _save(pipe.edit([args.instruction], [references], [args.seed], args.size, args.steps, args.guidance), args.out)


def world(args: argparse.Namespace) -> None:
    """qi2 world --out FILE"""
    from qi2.data.world.edits import ALL_EDIT_KINDS
    from qi2.data.world.scene import KINDS
    from qi2.data.world.sheet import sheet

    _save([sheet(args.kinds or [*KINDS, *ALL_EDIT_KINDS], args.n, args.size, args.seed)], args.out)


def inspect(args: argparse.Namespace) -> None:
    """qi2 data inspect SOURCE --out FILE"""
    from qi2.data.config import DataConfig
    from qi2.data.inspect import inspect
    from qi2.data.sources import source_kind

    found, page = inspect(args.source, Path(DataConfig().cache), args.limit, args.n)
    if not args.source.startswith("s3://"):
        print(f"source          {source_kind(args.source)}")
    print("\n".join(found.lines()))
    _save([page], args.out)


def pages(args: argparse.Namespace) -> None:
    """qi2 data pages --out FILE"""
    from qi2.data.pages.fonts import drawable
    from qi2.data.pages.kinds import KINDS
    from qi2.data.pages.sheet import sheet

    folders = tuple(args.fonts)
    _save([sheet(args.kinds or list(KINDS), args.languages or drawable(folders), args.size, args.seed, folders)], args.out)


def edits(args: argparse.Namespace) -> None:
    """qi2 data edits --out FILE"""
    from qi2.data.edits.sheet import bundled, sheet

    _save([sheet(bundled(), args.kinds, args.size, args.seed)], args.out)


def caption(args: argparse.Namespace) -> None:
    """qi2 data caption RAW --model PATH --out DIR"""
    from qi2.data.captions.command import caption_command
    from qi2.data.captions.config import CaptionConfig

    named = ("schemes", "languages", "lengths", "text_variants", "one_each", "templates", "batch_size", "max_tokens", "retries", "seed", "device")
    config = CaptionConfig(path=args.model, **{name: getattr(args, name) for name in named if getattr(args, name) is not None})
    print(caption_command(args.raw, config, args.out, args.facts, args.limit, args.evaluate))


def plan(args: argparse.Namespace) -> None:
    """qi2 plan --scale SCALE --gpus N --kind CARD"""
    import json
    from dataclasses import asdict

    from qi2.config import load
    from qi2.plan.config import PlanConfig
    from qi2.plan.estimate import estimate
    from qi2.plan.table import lines
    from qi2.recipe import Recipe, scale_layers

    named = {name: value for name in PlanConfig.__dataclass_fields__ if (value := getattr(args, name)) is not None}
    if named.get("sharding") == "fsdp":
        named["sharding"] = "zero3"
    config = PlanConfig(**named)
    rows = estimate(load(Recipe, scale_layers(args.conf_folder, args.scale), args.conf), config)
    print("\n".join(lines(args.scale, rows, config)))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({"scale": args.scale, "plan": asdict(config), "rows": [asdict(row) for row in rows]}, indent=1))


def evaluate_vae(args: argparse.Namespace) -> None:
    """qi2 vae evaluate VAE --out DIR"""
    from qi2.evaluation.vae_table import evaluate_command

    print(evaluate_command(args.vae, args.general, args.text, args.size, args.limit, args.seed, args.out))


def _save(images: Sequence, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        path = out if len(images) == 1 else out.with_stem(f"{out.stem}_{i}")
        image.save(path)
        print(path)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all sub-commands."""
    parser = argparse.ArgumentParser("qi2", description="An open production line for an omni image model. `make help` runs the line itself.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    one = _model_command(commands, "generate", generate, "draw an image from a prompt")
    one.add_argument("prompt")
    one.add_argument("-n", type=int, default=1, help="how many, with seeds SEED, SEED + 1, ...")
    two = _model_command(commands, "edit", edit, "change an image by an instruction")
    two.add_argument("images", nargs="+", metavar="image", help="one or more reference images")
    two.add_argument("instruction")
    three = commands.add_parser("world", help="a sheet of the procedural world's pictures with their captions")
    three.add_argument("--kinds", nargs="*", default=[], help="scene or edit kinds; all by default")
    three.add_argument("-n", type=int, default=6, help="pictures per kind")
    three.add_argument("--size", type=int, default=64)
    three.add_argument("--seed", type=int, default=0)
    three.add_argument("--out", type=Path, default=Path("world.png"))
    three.set_defaults(run=world)
    data = commands.add_parser("data", help="look at data").add_subparsers(required=True, metavar="COMMAND")
    four = data.add_parser("inspect", help="what a source holds, and a sheet of its pictures; of a bucket, the objects are fetched first")
    four.add_argument("source", help="as data.source: folder, table, tar shards, datasets folder, or s3://BUCKET/PREFIX")
    four.add_argument("--limit", type=int, default=0, help="rows to read; 0: all")
    four.add_argument("-n", type=int, default=24, help="pictures on the sheet")
    four.add_argument("--out", type=Path, default=Path("source.png"))
    four.set_defaults(run=inspect)
    five = data.add_parser("pages", help="a sheet of synthetic pages of text: a row per language that this machine has fonts for, a column per kind")
    five.add_argument("--kinds", nargs="*", default=[])
    five.add_argument("--languages", nargs="*", default=[])
    five.add_argument("--size", type=int, default=256)
    five.add_argument("--seed", type=int, default=0)
    five.add_argument("--fonts", nargs="*", default=[], help="folders to look into beside the usual ones")
    five.add_argument("--out", type=Path, default=Path("pages.png"))
    five.set_defaults(run=pages)
    six = data.add_parser("edits", help="a sheet of the editing pairs that are made from photographs: references, target, mask, instruction")
    six.add_argument("--kinds", nargs="*", default=[])
    six.add_argument("--size", type=int, default=160)
    six.add_argument("--seed", type=int, default=0)
    six.add_argument("--out", type=Path, default=Path("edits.png"))
    six.set_defaults(run=edits)
    _caption_command(data)
    _plan_command(commands)
    _vae_commands(commands)
    return parser


def _plan_command(commands: "argparse._SubParsersAction") -> None:
    """What is left out keeps the default of PlanConfig."""
    parser = commands.add_parser("plan", help="memory, work, time and cost of every training stage of a scale on given cards")
    parser.add_argument("--scale", default="report", help="a file of conf/scale")
    parser.add_argument("--conf-folder", type=Path, default=Path("conf"), help="where the scales are")
    parser.add_argument("--conf", nargs="*", default=[], metavar="KEY=VALUE", help="differences from the scale")
    parser.add_argument("--gpus", type=int)
    parser.add_argument("--kind", help="H100 H200 B200 A100-80GB A100-40GB L40S RTX4090 RTX5090 cpu")
    parser.add_argument("--price", type=float, help="USD per card and hour")
    parser.add_argument("--utilisation", type=float, help="of the dense bf16 peak, in (0, 1]")
    parser.add_argument("--sharding", help="ddp, zero1, zero2, zero3 or fsdp")
    parser.add_argument("--checkpointing", help="none or block")
    parser.add_argument("--dtype", help="bf16 (weights and gradients; fp32 states) or fp32")
    parser.add_argument("--text-tokens", type=int, help="per prompt")
    parser.add_argument("--references", type=int, help="per edit")
    parser.add_argument("--batches", help="recipe, or table2: a phase's batch shrinks as the side grows")
    parser.add_argument("--reserve", type=float, help="share of a card's memory that stays free")
    parser.add_argument("--json", type=Path, help="also write the plan to this file")
    parser.set_defaults(run=plan)


def _caption_command(data: "argparse._SubParsersAction") -> None:
    """What is left out keeps the default of CaptionConfig."""
    parser = data.add_parser("caption", help="caption the shards that ingest wrote with a Qwen3-VL, or exactly where the scene is known")
    parser.add_argument("raw", type=Path, metavar="RAW", help="folder with sidecar.parquet, e.g. runs/tiny/raw")
    parser.add_argument("--model", required=True, help="folder or hub id of a Qwen3-VL, or truth for exact captions of the world's scenes")
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


def _vae_commands(commands: "argparse._SubParsersAction") -> None:
    group = commands.add_parser("vae", help="look at an autoencoder").add_subparsers(required=True, metavar="COMMAND")
    parser = group.add_parser("evaluate", help="the report's Table 1 for an autoencoder: size, PSNR and SSIM on general images and on text")
    parser.add_argument("vae", type=Path, metavar="VAE", help="folder of ours, e.g. runs/tiny/vae, or of diffusers' AutoencoderKLQwenImage21")
    parser.add_argument("--general", default="", help="source of images as data.source; held-out photographs of scikit-image by default")
    parser.add_argument("--text", default="", help="source of images of text; our own synthetic pages by default")
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--limit", type=int, default=0, help="images per set; 0: all of a source")
    parser.add_argument("--seed", type=int, default=0, help="of the bundled sets and the intervals")
    parser.add_argument("--out", type=Path, default=Path("vae_evaluation"), help="folder for metrics.json and a sheet per set")
    parser.set_defaults(run=evaluate_vae)


def _model_command(commands: "argparse._SubParsersAction", name: str, run: Callable, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text)
    parser.add_argument("--out", type=Path, default=Path(f"{name}.png"))
    parser.add_argument("--model", help="runs/SCALE or a registered bundle; the newest champion by default")
    parser.add_argument("--stage", help="which model of that folder: distill, rlhf, sft, continual, pretrain")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, help="pixels, a multiple of 32")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.set_defaults(run=run)
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


if __name__ == "__main__":
    sys.exit(main())
