"""What RLHF at scale tiny gains, and what one change of its settings is worth: ``python -m benchmarks.tiny_rlhf --variant NAME --seed S``.

Aligns the sft model of a finished ``make run`` (which it leaves as it is) with one thread, and prints one line of JSON: CPU seconds, the judge's
curve, and on held-out prompts of a development suite (as `benchmarks.tiny_ablations`, but guidance 1 beside the deployed one) what is right by kind,
and the layouts of counts over 16 noises per prompt. ``--variant start`` measures the sft model; ``--against FILE`` (its output) adds paired differences.
``--summary FILE ...`` prints differences pooled over the seeds of one variant from ``--against``, one file or several seeds of another variant,
bootstrapped over prompts. ``docs/alignment.md`` keeps the results.
"""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.tiny_ablations import EDITS, PROMPTS, SEED, STEPS
from qi2.core.reporter import NullReporter

ROOM = ("count", "relation", "text")  # kinds of T2I that leave room
NOISES = {"t2i": 3, "edit": 2}  # pictures per prompt: with one, the luck of noise is worth .1 of a kind of 80 prompts
LAYOUT_PROMPTS, LAYOUT_NOISES = 24, 16
VARIANTS: dict[str, list[str]] = {
    "final": [],
    "start": ["rlhf.steps=0"],
    "control": ["rlhf.objective=supervised", "rlhf.updates=12"],
    "no_guidance": ["rlhf.rollout.guidance=1.0"],
    "grpo": ["rlhf.objective=grpo", "rlhf.rollout.sde_steps=2"],
    "grpo_guard": ["rlhf.objective=grpo", "rlhf.guard=true", "rlhf.clip_range=1.0e-4"],
    "batch_scale": ["rlhf.scale=batch"],
    "no_anchor": ["rlhf.supervised=0.0"],
    "reward_models": ["rlhf.rewards={aesthetic: 0.05, alignment: 1.0, portrait: 0.0, instruction: 1.0, consistency: 0.5, checker: 0.0}"],
    "no_average": ["rlhf.average=0.0"],
    "kl": ["rlhf.kl=1.0"],
    "large_lr": ["rlhf.optimizer.lr=1.0e-3"],
}


class Exam:
    """Held-out prompts, edits and repeated counts, encoded once; says what a model gets right."""

    def __init__(self, recipe: Any, runs: Path) -> None:
        from qi2.core.rng import key
        from qi2.evaluation.generate import encode_suite
        from qi2.evaluation.suites.world import edit_suite, t2i_suite
        from qi2.models.condition import ConditionEncoder
        from qi2.models.vae import VAE

        config = replace(recipe.evaluate, seed=SEED, prompts_per_kind=PROMPTS, edits_per_kind=EDITS)
        self.recipe, self.runs, self.vae, encoder = recipe, runs, VAE.load(runs / "vae"), ConditionEncoder.load(runs / "standins" / "vlm")
        self.prompts, self.edits = t2i_suite(config), edit_suite(config)
        self.counts = [p for p in self.prompts if p.kind == "count"][:LAYOUT_PROMPTS]
        self.sources = [edit.references(config.size) for edit in self.edits]

        def encoded(name: str, items: Any, references: list[Any], noises: int) -> Any:
            once = encode_suite(encoder, self.vae, [i.prompt for i in items], references, [], config.size)
            seeds = [key(SEED, name, i) for i in range(noises * len(items))]
            return replace(once, prompts=_repeat(once.prompts, noises), references=_repeat(once.references, noises), noise_seeds=seeds)

        self.suites = {
            "t2i": encoded("t2i", self.prompts, [[] for _ in self.prompts], NOISES["t2i"]),
            "edit": encoded("edit", self.edits, self.sources, NOISES["edit"]),
            "layout": encoded("layout", self.counts, [[] for _ in self.counts], LAYOUT_NOISES),
        }

    def pictures(self, model: Any, suite: str, guidance: float) -> list[Any]:
        from qi2.evaluation.generate import Drawing, draw
        from qi2.evaluation.models import Contender

        sampler = Contender(suite, self.runs, self.recipe.sampler.schedule(STEPS), guidance, self.recipe.sampler.edit_guidance)
        return draw(Drawing(model, sampler, self.suites[suite], self.vae, self.recipe.evaluate.batch))

    def __call__(self, model: Any) -> dict[str, dict[str, list[Any]]]:
        """{suite: {kinds, right}}, the share of a prompt's pictures that are right: T2I at guidance 1 and at the deployed one, edits done and all right."""
        from qi2.evaluation import score

        found: dict[str, dict[str, list[Any]]] = {}
        prompts, edits = _repeat(self.prompts, NOISES["t2i"]), _repeat(self.edits, NOISES["edit"])
        for name, guidance in (("t2i", self.recipe.sampler.guidance), ("t2i_unguided", 1.0)):
            verdicts = score.judge_t2i(self.pictures(model, "t2i", guidance), prompts)
            found[name] = {"kinds": [p.kind for p in self.prompts], "right": _per_prompt([v["all"] for v in verdicts], NOISES["t2i"])}
        sources = _repeat([group[0] for group in self.sources], NOISES["edit"])
        edited = score.judge_edits(self.pictures(model, "edit", 1.0), edits, sources)
        for name, what in (("edit_done", "done"), ("edit_right", "all")):
            found[name] = {"kinds": [e.kind for e in self.edits], "right": _per_prompt([v[what] for v in edited], NOISES["edit"])}
        return found

    def layouts(self, model: Any) -> dict[str, float]:
        """Of 16 pictures per count prompt: the share that is right, its different layouts, and how often two right ones of a prompt differ."""
        from qi2.data.world.checker import check, read

        pictures = self.pictures(model, "layout", self.recipe.sampler.guidance)
        right, different, among = list[float](), list[float](), list[float]()
        for i, item in enumerate(self.counts):
            own = pictures[i * LAYOUT_NOISES : (i + 1) * LAYOUT_NOISES]
            good = [bool(check(picture, item.scene)["all"]) for picture in own]
            seen = [frozenset(read(picture, item.scene.grid).occupied()) for picture in own]
            right.append(sum(good) / len(own))
            different.append(len(set(seen)))
            pairs = [seen[a] != seen[b] for a in range(len(own)) for b in range(a) if good[a] and good[b]]
            among += [sum(pairs) / len(pairs)] if pairs else []
        mean = {"right": right, "layouts": different, "pairs_that_differ": among}
        return {name: round(sum(values) / max(len(values), 1), 3) for name, values in mean.items()}


def _repeat(items: list[Any], n: int) -> list[Any]:
    return [item for item in items for _ in range(n)]


def _per_prompt(right: list[bool], n: int) -> list[float]:
    return [round(sum(right[i : i + n]) / n, 3) for i in range(0, len(right), n)]


class Times(NullReporter):
    """A reporter that sums what the parts of a step took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = 0

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        for name in ("speed/rollout_s", "speed/reward_s", "speed/update_s"):
            if name in values:
                self.seconds[name] = self.seconds.get(name, 0.0) + values[name] * (step - self.last)
        self.last = step


def align(recipe: Any, runs: Path) -> tuple[Any, dict[str, Any]]:
    """The aligned model and how it came about."""
    from qi2.models.mmdit import MMDiT
    from qi2.rewards.score import RewardModels
    from qi2.rlhf.train import RLHFInputs, build
    from qi2.training.fit import fit

    if not recipe.rlhf.steps:
        return MMDiT.load(runs / "sft"), {}
    vlm = runs / "standins" / "vlm"
    scorers = RewardModels.load(runs / "rewards", vlm).scorers(recipe.rewards.portrait_words)
    module = build(recipe, RLHFInputs(runs / "encoded", runs / "sft", runs / "vae", vlm, None, runs / "raw", runs / "curated"), scorers)
    times, start, began = Times(), time.process_time(), time.monotonic()
    fit(module, "rlhf", times, engine=recipe.engine, ema=recipe.rlhf.average)
    found: dict[str, Any] = {"seconds": round(time.process_time() - start, 1), "wall": round(time.monotonic() - began, 1), "steps": module.steps_done}
    found |= {"parts": {name: round(value, 1) for name, value in times.seconds.items()}, "ended": module.ended}
    if module.stop is not None:
        found |= {"best_step": module.stop.give(module.model), "history": module.history}
    return module.model.eval(), found


def means(found: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Shares right: all, the kinds that leave room, and each kind."""
    import numpy as np

    figures = {}
    for suite, rows in found.items():
        kinds, right = np.array(rows["kinds"]), np.array(rows["right"], float)
        own = {"all": right.mean()} | ({"room": right[np.isin(kinds, ROOM)].mean()} if "t2i" in suite else {})
        figures[suite] = {name: round(float(v), 3) for name, v in (own | {k: right[kinds == k].mean() for k in dict.fromkeys(kinds.tolist())}).items()}
    return figures


def differences(runs: list[dict[str, Any]], bases: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Paired differences (value, low, high) from the bases, each the mean over runs (seeds) per prompt, bootstrapped over prompts."""
    import numpy as np

    from qi2.evaluation.bootstrap import Bootstrap

    boot, found = Bootstrap(SEED, 2000), {}
    for suite, rows in bases[0].items():
        kinds, before = np.array(rows["kinds"]), np.mean([base[suite]["right"] for base in bases], axis=0)
        after = np.mean([run[suite]["right"] for run in runs], axis=0)
        groups = {"all": np.full(len(kinds), True), "room": np.isin(kinds, ROOM)} | {k: kinds == k for k in dict.fromkeys(kinds.tolist())}
        figures = {name: boot.difference(after[own], before[own]) for name, own in groups.items() if own.any()}
        found[suite] = {name: [round(x, 3) for x in (figure.value, figure.low, figure.high)] for name, figure in figures.items()}
    return found


def read(path: Path) -> Any:
    """The last line of a variant's output."""
    return json.loads(path.read_text().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tiny_rlhf", description=__doc__)
    parser.add_argument("--variant", choices=VARIANTS, default="final")
    parser.add_argument("--seed", type=int, default=0, help="of prompts, noise and real samples of the training")
    parser.add_argument("--set", nargs="*", default=[], help="further settings, as key=value")
    parser.add_argument("--runs", type=Path, help="folder of a finished run of scale tiny")
    parser.add_argument("--quick", action="store_true", help="only the judge's curve")
    parser.add_argument("--against", nargs="+", type=Path, default=[], help="output of --variant start (or of another variant's seeds), for paired differences")
    parser.add_argument("--summary", nargs="*", type=Path, help="outputs of one variant's seeds: their pooled differences, and no training")
    given = parser.parse_args()
    bases = [read(path)["verdicts"] for path in given.against]
    if given.summary:
        print(json.dumps(differences([read(path)["verdicts"] for path in given.summary], bases)))
        return
    import torch

    from qi2.config import load
    from qi2.recipe import Recipe
    from tasks import settings

    torch.set_num_threads(1)
    recipe = load(Recipe, [settings.ROOT / "conf" / "scale" / "tiny.yaml"], [f"seed={given.seed}", *VARIANTS[given.variant], *given.set])
    runs = given.runs or settings.ROOT / settings.runs_folder("tiny")
    model, result = align(recipe, runs)
    result = {"variant": given.variant, "seed": given.seed, "set": given.set} | result
    if given.quick:
        print(json.dumps(result))
        return
    exam = Exam(recipe, runs)
    found = exam(model)
    result |= {"means": means(found), "layouts": exam.layouts(model)}
    if bases:
        result["difference"] = differences([found], bases)
    print(json.dumps(result | {"verdicts": found}))


if __name__ == "__main__":
    main()
