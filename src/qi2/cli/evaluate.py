"""``qi2 evaluate``: a model on suites, public prompts as suites, and what suites and pictures there are."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from qi2.core.errors import QI2Error


def evaluate(args: argparse.Namespace) -> None:
    """qi2 evaluate MODEL --suite NAME [NAME ...] --out DIR, or one of its other words"""
    word, *rest = args.what
    if word not in WORDS:
        if rest:
            raise QI2Error(f"one model at a time: {word} was followed by {' '.join(rest)}; several stages of one go as --stage sft distill")
        _models(args, Path(word))
        return
    run, needed = WORDS[word]
    if len(rest) != needed.count(" "):
        raise QI2Error(f"write qi2 evaluate {needed}")
    run(args, rest)


def _models(args: argparse.Namespace, folder: Path) -> None:
    from qi2.cli.paint import open_painter
    from qi2.evaluation.scorers.registry import open_scorer
    from qi2.evaluation.store import Store, default_folder
    from qi2.evaluation.suites.registry import find_suite
    from qi2.evaluation.suites.report import write
    from qi2.evaluation.suites.run import evaluate_suite

    if not args.suite:
        raise QI2Error("say on which suite: --suite NAME or FILE; `qi2 evaluate suites` lists those that are known")
    named = dict(_pair(text) for text in args.scorer)
    suites = [find_suite(name, args.folders) for name in args.suite]
    scorers = [open_scorer(suite, named.get(suite.config.scorer, ""), args.device) for suite in suites]  # before anything is drawn
    store, results = Store(args.store or default_folder()), []
    for stage in args.stage or [""]:
        painter = open_painter(folder, stage, store, args.batch, args.device, args.dtype, args.lora, args.steps, args.guidance)
        results += [evaluate_suite(painter, suite, scorer, store, args.seed, args.resamples) for suite, scorer in zip(suites, scorers, strict=True)]
    print(write(args.out, results, args.price, store))
    print(f"\n{args.out}")


def _pair(text: str) -> tuple[str, str]:
    from qi2.evaluation.scorers.base import PROTOCOLS

    protocol, equals, scorer = text.partition("=")
    if not equals or protocol not in PROTOCOLS:
        raise QI2Error(f"--scorer {text} is not PROTOCOL=SCORER; protocols are {', '.join(PROTOCOLS)}")
    return protocol, scorer


def _import(args: argparse.Namespace, rest: Sequence[str]) -> None:
    from qi2.evaluation.suites.own import identity_suites
    from qi2.evaluation.suites.public import import_suite

    kind, path = rest[0], Path(rest[1])
    for suite in identity_suites(path, args.out) if kind == "identity" else [import_suite(kind, path, args.out)]:
        print(f"{suite.path}: {len(suite.rows)} prompts, {suite.config.licence}; evaluate with --suite {suite.path}")


def _suites(args: argparse.Namespace, rest: Sequence[str]) -> None:
    from qi2.evaluation.suites.registry import suite_files
    from qi2.evaluation.suites.suite import load_suite

    suites = [load_suite(path) for path in suite_files(args.folders).values()]
    width = max((len(suite.name) for suite in suites), default=0)
    print(f"{'suite':<{width}}  pictures  task  {'asks':<10} {'of':<8}  {'formula':<10}  {'version':<12}  about")
    for suite in sorted(suites, key=lambda suite: suite.name):
        config, who = suite.config, suite.config.local or "--scorer"
        counts, protocol = f"{len(suite.rows):>4} x {config.images}  {config.task:<4}", f"{config.scorer:<10} {who:<8}  {config.aggregate:<10}"
        print(f"{suite.name:<{width}}  {counts}  {protocol}  {suite.hash[:12]}  {config.about}")


def _store(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """What was drawn by each model, and files that nothing names; with --prune, they and what was not asked for longest go."""
    from qi2.evaluation.store import Store, default_folder

    store = Store(args.store or default_folder())
    if args.prune is not None:
        files, size = store.prune(int(args.prune * 2**30))
        print(f"removed {files} files of {size / 2**20:.1f} MiB")
    for name, pictures, seconds in store.models():
        cost = f"  {seconds / 3600 * args.price:.4f} USD" if args.price else ""
        print(f"{name:<40} {pictures:>7} pictures  {seconds:>9.1f} s  {pictures / max(seconds, 1e-9):>8.2f}/s{cost}")
    for path in store.garbage():
        print(f"unused  {path}")


WORDS: dict[str, tuple[Callable[[argparse.Namespace, Sequence[str]], None], str]] = {
    "import": (_import, "import geneval|dpg|longtext|identity PATH"),
    "suites": (_suites, "suites"),
    "store": (_store, "store"),
}


def add_commands(commands: "argparse._SubParsersAction") -> None:
    """The parser of this file's command."""
    parser = commands.add_parser("evaluate", help="a model on suites of prompts; import public prompts; list suites and stored pictures")
    parser.add_argument(
        "what",
        nargs="+",
        metavar="MODEL",
        help="runs/SCALE or a bundle; or import KIND PATH (geneval, dpg, longtext; identity: a folder of portraits), suites, store",
    )
    parser.add_argument("--suite", nargs="+", default=[], help="names of conf/suites, or files")
    parser.add_argument("--folders", nargs="*", type=Path, default=[], help="more folders of suites")
    parser.add_argument(
        "--scorer", nargs="*", default=[], metavar="PROTOCOL=SCORER", help="detector, ocr, vqa, similarity or judge = world, rapidocr, URL#MODEL, FOLDER"
    )
    parser.add_argument("--stage", nargs="*", default=[], help="which models of the folder; the last of the line by default")
    parser.add_argument("--store", type=Path, help="where pictures and answers are kept and found again")
    parser.add_argument("--prune", type=float, metavar="GIB", help="of store: remove what was not asked for longest until so much is left, and unused files")
    parser.add_argument(
        "--out", type=Path, default=Path("suites"), help="folder for results.json, metrics.json, table.txt and sheets; of import, for the suite"
    )
    parser.add_argument("--batch", type=_count, default=16, help="pictures that are drawn together and then kept")
    parser.add_argument("--steps", type=_count)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--lora", default="", help="an adapter of peft or diffusers: a .safetensors file")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", default="", help="of the MMDiT, e.g. bfloat16; as its file by default")
    parser.add_argument("--seed", type=int, default=2026, help="of noise and intervals")
    parser.add_argument("--resamples", type=_count, default=1000, help="draws of an interval")
    parser.add_argument("--price", type=float, default=0.0, help="USD per hour of this machine, for the cost")
    parser.set_defaults(run=evaluate)


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not one or more")
    return int(text)
