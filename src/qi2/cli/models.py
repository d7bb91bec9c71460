"""``qi2 vae``, ``qi2 convert`` and ``qi2 plan``: measure an autoencoder, exchange models, and say what training will cost."""

import argparse
from pathlib import Path


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


def convert(args: argparse.Namespace) -> None:
    """qi2 convert SOURCE OUT"""
    from qi2.convert import convert

    print(convert(args.source, args.out, args.stage, args.link))


def add_commands(commands: "argparse._SubParsersAction") -> None:
    """The parsers of this file's commands."""
    _plan_command(commands)
    _vae_commands(commands)
    _convert_command(commands)


def _plan_command(commands: "argparse._SubParsersAction") -> None:
    """What is left out keeps the default of PlanConfig."""
    parser = commands.add_parser("plan", help="memory, work, time and cost of every training stage of a scale on given cards")
    parser.add_argument("--scale", default="report", help="a file of conf/scale")
    parser.add_argument("--conf-folder", type=Path, default=Path("conf"), help="where the scales are")
    parser.add_argument("--conf", nargs="*", default=[], metavar="KEY=VALUE", help="differences from the scale")
    parser.add_argument("--gpus", type=int)
    parser.add_argument("--kind", help="H100 H100-PCIe H200 B200 A100-80GB A100-40GB L40S RTX4090 RTX5090 cpu")
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


def _convert_command(commands: "argparse._SubParsersAction") -> None:
    parser = commands.add_parser("convert", help="a pipeline folder of diffusers (Qwen-Image-2.1) to a bundle of ours, or back; without loss")
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder with model_index.json; or runs/SCALE, or a bundle")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--stage", help="which model of a run: distill, rlhf, sft, continual, pretrain; the last of the line by default")
    parser.add_argument("--link", action="store_true", help="link the condition encoder's folders in OUT instead of copying them")
    parser.set_defaults(run=convert)
