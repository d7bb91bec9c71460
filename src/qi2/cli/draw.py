"""``qi2 generate`` and ``qi2 edit``: use a trained model."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from qi2.cli.images import save
from qi2.core.errors import QI2Error
from qi2.enhancer.request import Request

if TYPE_CHECKING:
    from qi2.pipeline import Pipeline


def generate(args: argparse.Namespace) -> None:
    """qi2 generate PROMPT [PROMPT ...] --out FILE"""
    pipe = _load(args)
    prompts, seeds = _with_seeds(_enhanced([Request(prompt) for prompt in args.prompts], args), args)
    _finish(pipe.generate(prompts, seeds, args.size, args.steps, args.guidance, args.negative), args)


def edit(args: argparse.Namespace) -> None:
    """qi2 edit IMAGE [IMAGE ...] INSTRUCTION --out FILE"""
    references = [_open(name) for name in args.images]
    pipe = _load(args)
    prompts, seeds = _with_seeds(_enhanced([Request(args.instruction, "ti2i", references)], args), args)
    _finish(pipe.edit(prompts, [references] * len(prompts), seeds, args.size, args.steps, args.guidance, args.negative), args)


def add_commands(commands: "argparse._SubParsersAction") -> None:
    """The parsers of this file's commands."""
    one = _command(commands, "generate", generate, "draw images from prompts")
    one.add_argument("prompts", nargs="+", metavar="prompt")
    two = _command(commands, "edit", edit, "change an image by an instruction")
    two.add_argument("images", nargs="+", metavar="image", help="one to ten reference images; the last one gives the shape")
    two.add_argument("instruction")


def _command(commands: "argparse._SubParsersAction", name: str, run: Callable, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text)
    parser.add_argument("--out", type=Path, default=Path(f"{name}.png"))
    parser.add_argument("--model", help="runs/SCALE, a registered bundle, or what qi2 convert wrote; the newest champion by default")
    parser.add_argument("--stage", help="which model of that folder: distill, rlhf, sft, continual, pretrain")
    parser.add_argument("--lora", default="", help="an adapter of peft or diffusers: a .safetensors file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-n", type=_count, default=1, help="how many per prompt, with seeds SEED, SEED + 1, ...")
    parser.add_argument("--size", type=_size, help="pixels, multiples of 32: 512, or 768x512 (width x height)")
    parser.add_argument("--steps", type=_count)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--enhance", action="store_true", help="let the run's prompt enhancer rewrite what is asked for, and show what it wrote")
    parser.add_argument("--enhancer", type=Path, help="its folder, where it is not the model's own (implies --enhance)")
    parser.add_argument("--negative", help="a prompt that guidance leads away from")
    parser.add_argument("--grid", type=int, default=0, metavar="COLUMNS", help="one picture of all, in so many columns")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", default="", help="of the MMDiT, e.g. bfloat16; as its file by default")
    parser.set_defaults(run=run)
    return parser


def _open(name: str) -> Image.Image:
    """A picture as its viewer shows it: turned as its camera says."""
    if not Path(name).exists():
        raise QI2Error(f'no image {name}; write qi2 edit IN.png [IN2.png ...] "INSTRUCTION" --out OUT.png')
    try:
        return ImageOps.exif_transpose(Image.open(name))
    except OSError as error:
        raise QI2Error(f"{name} cannot be read as an image ({error}); give a PNG, JPEG or WebP file") from error


def _size(text: str) -> int | tuple[int, int]:
    width, cross, height = text.partition("x")
    return (int(width), int(height)) if cross else int(width)


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not one or more")
    return int(text)


def _load(args: argparse.Namespace) -> "Pipeline":
    from qi2.pipeline import Pipeline

    return Pipeline.load(args.model, args.stage, args.device, args.dtype, args.lora)


def _enhanced(requests: "list[Request]", args: argparse.Namespace) -> list[str]:
    """What the generator reads; says on stderr what became of every prompt."""
    if not (args.enhance or args.enhancer):
        return [request.prompt for request in requests]
    from qi2.enhancer.enhance import Enhancer
    from qi2.pipeline import find_champion

    folder = args.enhancer or (Path(args.model) if args.model else find_champion()) / "enhancer"
    rewrites = Enhancer.load(folder, args.device).enhance(requests)
    for rewrite in rewrites:
        said = f"kept {rewrite.original!r}: {rewrite.fallback}" if rewrite.fallback else f"{rewrite.original!r} -> {rewrite.enhanced!r}"
        print(said, file=sys.stderr)
    return [rewrite.text for rewrite in rewrites]


def _with_seeds(prompts: list[str], args: argparse.Namespace) -> tuple[list[str], list[int]]:
    return [prompt for prompt in prompts for _ in range(args.n)], [args.seed + i for _ in prompts for i in range(args.n)]


def _finish(images: list[Image.Image], args: argparse.Namespace) -> None:
    from qi2.pipeline import grid

    save([grid(images, args.grid)] if args.grid else images, args.out)
