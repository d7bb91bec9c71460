"""What one change of scale tiny's image model is worth: ``python -m benchmarks.tiny_ablations --variant NAME``.

Trains the phases anew on the encoded samples of a finished ``make run`` (which it leaves as it is), with one thread, and prints one line of JSON:
CPU seconds per phase, accuracies on a development suite (other prompts and noise than the published one's, from the same held-out combinations)
and, with ``--against FILE`` (the output of another variant), paired differences with 95 % bootstrap intervals. ``docs/tiny.md`` keeps the results.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

SEED, PROMPTS, EDITS, STEPS = 7, 80, 43, 12  # of the development suite: per kind
LOOK = (20, 6)  # prompts and edits per kind, of a look on the way
PHASES = ("pretrain", "continual", "sft")
NOISE = "{stage: %d, sizes: [%d], steps: %d, ti2i_share: %g, t_mean: [0.0, 0.0], t_std: 1.0}"
PLAIN_ADAM = "{name: adam, lr: 3.0e-3, weight_decay: 0.001, floor: 1.0}"
MUON = "{name: muon, lr: 8.0e-3, adam_lr: 3.0e-3, weight_decay: 0.1, floor: 0.1}"
VARIANTS: dict[str, list[str]] = {
    "final": [],
    "no_copy_head": ["mmdit.copy_head=false"],
    "no_copy_head_no_shortcut": ["mmdit.copy_head=false", "mmdit.image_shortcut=false"],
    "no_shortcut": ["mmdit.image_shortcut=false"],
    "no_places": ["mmdit.places=false"],
    "plain_noise": [f"pretrain.stages=[{NOISE % (1, 32, 60, 0)}, {NOISE % (2, 64, 60, 0.1)}, {NOISE % (3, 64, 1880, 0.1)}]"],
    "no_ema": ["pretrain.ema=0.0"],
    "no_ema_decayed": ["pretrain.ema=0.0", "pretrain.optimizer.floor=0.05"],
    "little_decay": [f"pretrain.optimizer={PLAIN_ADAM}"],
    "muon": [f"pretrain.optimizer={MUON}"],
    "wide": ["mmdit.layers=3", "mmdit.width=120", "mmdit.rope_axes=[16, 12, 12]"],
    "deep": ["mmdit.layers=9", "mmdit.width=72", "mmdit.rope_axes=[8, 8, 8]"],
    "small": [  # the network of scale small; the rate falls with the width
        "mmdit.layers=12",
        "mmdit.width=512",
        "mmdit.heads=8",
        "mmdit.rope_axes=[16, 24, 24]",
        *(f"{phase}.optimizer.{value}" for phase in PHASES for value in ("lr=8.0e-4", "warmup=40")),
        "pretrain.optimizer.weight_decay=1.5",
        "continual.optimizer.weight_decay=1.5",
        "continual.ema=0.98",
        "sft.optimizer.weight_decay=0.3",
        "sft.ema=0.995",
    ],
    "repa": ["encode.features=true", "pretrain.alignment.weight=0.5"],
    "batch_16": ["pretrain.batch_size=16"],
    "more_edits": [
        "pretrain.stages=[{stage: 1, sizes: [32], steps: 60, ti2i_share: 0.0, t_mean: [2.0, 2.0], t_std: 1.2}, "
        "{stage: 2, sizes: [64], steps: 60, ti2i_share: 0.3, t_mean: [2.0, 2.0], t_std: 1.2}, "
        "{stage: 3, sizes: [64], steps: 1880, ti2i_share: 0.3, t_mean: [2.0, 0.9], t_std: 1.2}]"
    ],
}


def train(
    recipe: Any, runs: Path, until: str, checkpoints: Path | None = None, steps: int = 0, looks: int = 0
) -> tuple[Any, dict[str, float], list[dict[str, Any]]]:
    """The model after the phases up to ``until``; CPU and wall seconds of each, of a training that goes on, since then; and its curve.

    steps: of each phase, 0: all. looks: at the average, in every phase.
    """
    from qi2.core.reporter import NullReporter
    from qi2.mmdit.module import MMDiTModule
    from qi2.mmdit.train import start_model
    from qi2.training.encoded import EncodedSet
    from qi2.training.fit import fit

    class Early(MMDiTModule):
        """Ends on its way, with schedules as if it did not."""

        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            super().on_train_batch_start(batch, batch_idx)
            self.ended = "steps" if self.steps_done + 1 == steps else ""

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            if looks and self.steps_done % max(1, self.total_steps // looks) == 0 and self.average is not None:
                with self.average.instead(self.model):
                    found = verdicts(recipe, runs, self.model.eval(), sizes=LOOK)
                self.model.train()
                right, done = ([int(v) for v in found[suite][column]] for suite, column in (("t2i", "right"), ("edit", "done")))
                curve.append({"phase": self.name, "step": self.steps_done, "t2i": sum(right) / len(right), "done": sum(done) / len(done)})
                print(curve[-1], file=sys.stderr)

    curve: list[dict[str, Any]] = []
    data, seconds = EncodedSet(encoded(recipe, runs), recipe.encode.features), {}
    model = start_model(replace(recipe.mmdit, context_width=data.prompts[0].text.shape[1]), None, recipe.seed)
    for name in PHASES[: PHASES.index(until) + 1]:
        phase, start, clock = getattr(recipe, name), time.process_time(), time.perf_counter()
        module = Early(model, data, phase, name, recipe.seed)
        fit(module, name, NullReporter(), checkpoints=checkpoints / name if checkpoints else None, ema=phase.ema)
        model, seconds[name] = module.model, round(time.process_time() - start, 1)
        seconds[f"{name}_wall"] = round(time.perf_counter() - clock, 1)
    return model.eval(), seconds, curve


def shortened(recipe: Any, share: float) -> Any:
    """The recipe with that share of the steps of every stage."""
    phases = {name: getattr(recipe, name) for name in PHASES}
    stages = {name: [replace(stage, steps=round(share * stage.steps)) for stage in phase.stages] for name, phase in phases.items()}
    return replace(recipe, **{name: replace(phase, stages=stages[name]) for name, phase in phases.items()})


def encoded(recipe: Any, runs: Path) -> Path:
    """The run's encoded samples; where a variant needs vision features, the same encoded anew beside the system's other temporary files, once."""
    if not recipe.encode.features:
        return runs / "encoded"
    from qi2.core.publish import file_sha256
    from qi2.core.reporter import NullReporter
    from qi2.training.encode import encode

    out = Path(tempfile.gettempdir()) / f"qi2-features-{file_sha256(runs / 'encoded' / 'manifest.json')[:16]}"
    if not out.exists():
        encode(recipe, runs / "datasets", runs / "standins" / "vlm", runs / "vae", out, NullReporter())
    return out


def verdicts(recipe: Any, runs: Path, model: Any, how: Any = None, sizes: tuple[int, int] = (PROMPTS, EDITS)) -> dict[str, Any]:
    """Which prompts and edits of the development suite the model gets right, and how far it changes what an edit leaves alone.

    how: (schedule, guidance, guidance of edits) of the sampler; None: `STEPS` guided steps. sizes: prompts and edits per kind.
    """
    from qi2.evaluation import score
    from qi2.evaluation.generate import Drawing, draw, encode_suite
    from qi2.evaluation.models import Contender
    from qi2.evaluation.suites.world import edit_suite, t2i_suite
    from qi2.models.condition import ConditionEncoder
    from qi2.models.vae import VAE

    config = replace(recipe.evaluate, seed=SEED, prompts_per_kind=sizes[0], edits_per_kind=sizes[1])
    vae, encoder = VAE.load(runs / "vae"), ConditionEncoder.load(runs / "standins" / "vlm")
    sampler = Contender("variant", runs, *(how or (recipe.sampler.schedule(STEPS), recipe.sampler.guidance, recipe.sampler.edit_guidance)))

    def pictures(items: Any, references: list[Any]) -> list[Any]:
        suite = encode_suite(encoder, vae, [i.prompt for i in items], references, [i.noise_seed for i in items], config.size)
        return draw(Drawing(model, sampler, suite, vae, config.batch))

    prompts, edits = t2i_suite(config), edit_suite(config)
    references = [edit.references(config.size) for edit in edits]
    t2i = score.judge_t2i(pictures(prompts, [[] for _ in prompts]), prompts)
    edited = score.judge_edits(pictures(edits, references), edits, [group[0] for group in references])
    return {
        "t2i": {"kinds": [p.kind for p in prompts], "right": [int(v["all"]) for v in t2i]},
        "edit": {
            "kinds": [e.kind for e in edits],
            "done": [int(v["done"]) for v in edited],
            "right": [int(v["all"]) for v in edited],
            "error": [round(v["kept_mae"], 2) for v in edited],
        },
    }


def figures(found: dict[str, Any], floor: float) -> dict[str, Any]:
    """Means of all and of each kind, with what counts as kept: at most `KEPT_MULTIPLE` times the VAE's own error ``floor``."""
    import numpy as np

    from qi2.evaluation.score import KEPT_MULTIPLE

    def by_kind(suite: str, name: str) -> dict[str, float]:
        kinds, values = np.array(found[suite]["kinds"]), np.array(found[suite][name])
        return {"all": round(float(values.mean()), 3)} | {k: round(float(values[kinds == k].mean()), 2) for k in dict.fromkeys(kinds.tolist())}

    error = np.array(found["edit"]["error"])
    kept = {"median_error": round(float(np.median(error)), 2), "kept": round(float((error <= KEPT_MULTIPLE * floor).mean()), 3)}
    return {"t2i": by_kind("t2i", "right"), "done": by_kind("edit", "done"), "edit_right": by_kind("edit", "right")["all"]} | kept


def differences(found: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Paired differences (value, low, high) of the accuracies."""
    import numpy as np

    from qi2.evaluation.bootstrap import Bootstrap

    boot, paired = Bootstrap(SEED, 2000), {}
    for name, suite, column in (("t2i", "t2i", "right"), ("done", "edit", "done"), ("edit_right", "edit", "right")):
        figure = boot.difference(np.array(found[suite][column], float), np.array(base[suite][column], float))
        paired[name] = [round(value, 3) for value in (figure.value, figure.low, figure.high)]
    return paired


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tiny_ablations", description=__doc__)
    parser.add_argument("--variant", choices=VARIANTS, default="final")
    parser.add_argument("--until", choices=PHASES, default="sft", help="the last phase to train")
    parser.add_argument("--set", nargs="*", default=[], help="further settings, as key=value")
    parser.add_argument("--runs", type=Path, help="folder of a finished run of scale tiny")
    parser.add_argument("--steps", type=int, default=0, help="look at the model after so many steps of each phase")
    parser.add_argument("--share", type=float, default=1.0, help="of the recipe's steps, schedules included")
    parser.add_argument("--looks", type=int, default=0, help="so many points of a curve in every phase")
    parser.add_argument("--checkpoints", type=Path, help="folder to go on from when the same command was stopped")
    parser.add_argument("--against", type=Path, help="output of another variant, for paired differences")
    given = parser.parse_args()
    import torch

    from qi2.config import load
    from qi2.recipe import Recipe
    from tasks import settings

    torch.set_num_threads(1)
    recipe = load(Recipe, [settings.ROOT / "conf" / "scale" / "tiny.yaml"], [*VARIANTS[given.variant], *given.set])
    recipe = shortened(recipe, given.share)
    runs = given.runs or settings.ROOT / settings.runs_folder("tiny")
    model, seconds, curve = train(recipe, runs, given.until, given.checkpoints, given.steps, given.looks)
    found = verdicts(recipe, runs, model)
    floor = json.loads((runs / "evaluate" / "metrics.json").read_text())["edit/vae_floor_mae"]
    asked = {"variant": given.variant, "until": given.until, "steps": given.steps, "share": given.share, "set": given.set}
    result: dict[str, Any] = asked | {"seconds": seconds, "curve": curve} | figures(found, floor)
    if given.against:
        result["difference"] = differences(found, json.loads(given.against.read_text().splitlines()[-1])["verdicts"])
    print(json.dumps(result | {"verdicts": found}))


if __name__ == "__main__":
    main()
