"""What the prompt enhancer recovers at scale tiny: ``python -m benchmarks.tiny_enhancer --runs runs/tiny --seed 0 --out FILE`` per seed.

Trains the enhancer anew from a finished ``make run`` (which it leaves as it is), by SFT and then RL, and judges both on held-out prompts and edits beside
those of the published suite. ``--set`` changes the recipe (``--set enhancer.rl.lr=...``), ``--start FOLDER`` takes a trained SFT model. ``--summary FILES``
prints the table of ``docs/enhancer.md``: the prompts of all seeds together, whose seeds are averaged prompt by prompt, with 95 % bootstrap intervals.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

SUITE = 2027  # seed of the prompts and of their noise
VERSIONS = ("full", "short", "sft", "rewritten", "full_rewritten")


def train(recipe: Any, runs: Path, out: Path, start: Path | None) -> dict[str, float]:
    """SFT and RL into ``out``, and the CPU seconds of both."""
    from qi2.core.reporter import NullReporter
    from qi2.enhancer.train import EnhancerInputs, train_enhancer, train_enhancer_sft
    from qi2.pipeline import Pipeline
    from qi2.rewards.score import RewardModels

    begun = time.process_time()
    if start is None:
        train_enhancer_sft(recipe, runs / "raw", runs / "encoded", out / "enhancer_sft", NullReporter())
    else:
        (out / "enhancer_sft").symlink_to(start.resolve())
    between, config = time.process_time(), recipe.enhancer
    pipe = replace(Pipeline.load(runs, config.generator), sampler=recipe.sampler, size=config.size, batch=config.batch, quiet=True)
    needed = config.rl.rewards.get("aesthetic", 0) > 0
    scorers = RewardModels.load(runs / "rewards", runs / "standins" / "vlm", ("aesthetic",)).scorers() if needed else {}
    train_enhancer(recipe, EnhancerInputs(out / "enhancer_sft", runs / "raw"), pipe.paint, scorers, out / "enhancer", NullReporter())
    return {"sft_s": round(between - begun, 1), "rl_s": round(time.process_time() - between, 1)}


def judge(recipe: Any, runs: Path, out: Path, known: bool = False) -> dict[str, Any]:
    """{task: {version: right or wrong of every prompt}}. known: of prompts that no triplet has, but whose combinations training knows."""
    from qi2.core.reporter import NullReporter
    from qi2.enhancer.train import TRIPLETS
    from qi2.enhancer.triplets import read_triplets
    from qi2.evaluation.enhanced import EnhancerExam
    from qi2.evaluation.models import chain_contenders
    from qi2.evaluation.painter import ModelPainter, Studio
    from qi2.evaluation.samples import Samples
    from qi2.evaluation.store import opened
    from qi2.evaluation.wordings import RESULTS

    class KnownExam(EnhancerExam):
        split = "train"

    config, samples = recipe.evaluate, Samples(out, NullReporter(), 10, 0)
    drawer = next(entry for entry in chain_contenders(recipe, runs) if entry.name == recipe.enhancer.generator)
    with opened(None) as store:
        studio = Studio(runs / "vae", runs / "standins" / "vlm", store, config.size, config.batch, config.workers)
        (KnownExam if known else EnhancerExam)(recipe, out, ModelPainter(studio, drawer), samples).run()
    items = json.loads((out / RESULTS).read_text())["items"]
    if known:
        read = {triplet.fine for triplet in read_triplets(out / "enhancer_sft" / TRIPLETS)}
        items = {task: [row for row in rows if row["prompts"]["full"] not in read] for task, rows in items.items()}
    return {task: {version: [row["right"][version] for row in rows] for version in VERSIONS} for task, rows in items.items()}


def summary(files: list[Path]) -> str:
    """A table in Markdown."""
    import numpy as np

    from qi2.evaluation.bootstrap import Bootstrap

    lines, boot, rows = [json.loads(path.read_text()) for path in files], Bootstrap(SUITE, 2000), ["| | T2I | edits |", "|---|---|---|"]
    tasks = ("t2i", "ti2i")
    right = {task: {v: np.mean([line["right"][task][v] for line in lines], axis=0) for v in VERSIONS} for task in tasks}

    def row(name: str, figures: list[Any]) -> None:
        rows.append(f"| {name} | " + " | ".join(f"{f.value:.3f} [{f.low:.3f}, {f.high:.3f}]" if f else "–" for f in figures) + " |")

    for version in VERSIONS:
        row(version, [boot.mean(right[task][version]) for task in tasks])
    for version in ("sft", "rewritten"):
        row(
            f"recovered, {version}",
            [boot.ratio(right[t][version] - right[t]["short"], right[t]["full"] - right[t]["short"]) for t in tasks],
        )
    row("RL over SFT", [boot.difference(right[t]["rewritten"], right[t]["sft"]) for t in tasks])
    row("full prompts, change", [boot.difference(right[t]["full_rewritten"], right[t]["full"]) for t in tasks])
    cost = f"{len(lines)} seeds, {len(right['t2i']['full'])} prompts, {len(right['ti2i']['full'])} edits; CPU s: "
    return "\n".join([*rows, "", cost + ", ".join(f"{line['sft_s']:.0f} + {line['rl_s']:.0f}" for line in lines)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/tiny"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prompts", type=int, default=200, help="per kind; a third as many edits")
    parser.add_argument("--known", action="store_true", help="ask for combinations that training knows, in prompts that it does not have")
    parser.add_argument("--start", type=Path, help="a trained enhancer_sft")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--summary", type=Path, nargs="*", metavar="FILE")
    given = parser.parse_args()
    if given.summary:
        print(summary(given.summary))
        return
    import torch

    from qi2.config import load
    from qi2.recipe import Recipe, scale_layers

    torch.set_num_threads(1)
    more = [f"seed={given.seed}", f"evaluate.seed={SUITE}", f"enhancer.evaluate_prompts={given.prompts}", *given.set]
    recipe = load(Recipe, scale_layers(Path("conf"), "tiny"), more)
    with tempfile.TemporaryDirectory() as scratch:
        seconds = train(recipe, given.runs, Path(scratch), given.start)
        line = {"seed": given.seed, "set": given.set, **seconds, "right": judge(recipe, given.runs, Path(scratch), given.known)}
    (given.out or Path(f"enhancer-{given.seed}.json")).write_text(json.dumps(line))
    print(json.dumps({key: value for key, value in line.items() if key != "right"}))


if __name__ == "__main__":
    main()
