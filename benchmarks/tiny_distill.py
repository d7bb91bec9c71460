"""What distillation keeps of its teacher at scale tiny: ``python -m benchmarks.tiny_distill --variant NAME [--seed 0]``.

Distils anew from the models of a finished ``make run`` (which it leaves as it is), with one thread, and prints one line of JSON: CPU
seconds of the training, accuracies on the development suite of `benchmarks.tiny_ablations` and its verdicts. ``--variant teacher`` (and
``teacher_sft``) judges the many-step guided teacher, ``untrained`` the teacher by the student's sampler. ``--summary FILES`` makes the table of
``docs/distillation.md`` from such lines: a variant's seeds are averaged prompt by prompt, and ratios to ``--against`` (the teacher) and
differences carry 95 % bootstrap intervals over prompts, paired.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.tiny_ablations import SEED, figures, verdicts

TEACHERS = {"teacher": "rlhf", "teacher_sft": "sft"}
VARIANTS: dict[str, list[str]] = {
    "final": [],
    "untrained": ["distill.steps=0", "distill.fake_warmup=0"],
    "sft": ["distill.teacher=sft"],
    "no_warmup": ["distill.fake_warmup=0", "distill.steps=260"],  # costs as much
    "warmup_80": ["distill.fake_warmup=80", "distill.steps=228"],
    "decoupled": ["distill.schedules=decoupled"],
    "decoupled_guidance_1.5": ["distill.schedules=decoupled", "distill.guidance=1.5"],
    "steps_1": ["sampler.few_steps=1"],
    "steps_2": ["sampler.few_steps=2"],
    "steps_8": ["sampler.few_steps=8"],
    "no_guidance": ["distill.guidance=1.0"],
    "guidance_3": ["distill.guidance=3.0"],
    "one_fake_update": ["distill.fake_updates=1"],
    "four_fake_updates": ["distill.fake_updates=4"],
    "no_ema": ["distill.ema=0.0"],
}
COLUMNS = {"T2I right": ("t2i", "right"), "edits done": ("edit", "done"), "edits right": ("edit", "right")}


def distil(recipe: Any, runs: Path) -> tuple[Any, float]:
    """The student, and the CPU seconds of its training."""
    from qi2.core.reporter import NullReporter
    from qi2.distill.module import DistillModule
    from qi2.models.mmdit import MMDiT
    from qi2.training.encoded import EncodedSet
    from qi2.training.fit import fit

    module = DistillModule(MMDiT.load(runs / recipe.distill.teacher), EncodedSet(runs / "encoded"), recipe.distill, recipe.sampler, recipe.seed)
    start = time.process_time()
    fit(module, "distill", NullReporter(), ema=recipe.distill.ema)
    return module.model.eval(), round(time.process_time() - start, 1)


def measure(variant: str, recipe: Any, runs: Path, floor: float) -> dict[str, Any]:
    """One line of output."""
    from qi2.models.mmdit import MMDiT

    if variant in TEACHERS:
        s = recipe.sampler
        model, seconds, how = MMDiT.load(runs / TEACHERS[variant]), 0.0, (s.schedule(), s.guidance, s.edit_guidance)
    else:
        (model, seconds), how = distil(recipe, runs), (recipe.sampler.few(), 1.0, 1.0)
    start = time.process_time()
    found = verdicts(recipe, runs, model, how)
    return {"seconds": seconds, "judging_s": round(time.process_time() - start, 1)} | figures(found, floor) | {"verdicts": found}


def summary(files: list[Path], against: str) -> str:
    """A table in Markdown, a row per variant."""
    import numpy as np

    from qi2.evaluation.bootstrap import Bootstrap

    lines = [json.loads(path.read_text().splitlines()[-1]) for path in files]
    names, boot = list(dict.fromkeys(line["variant"] for line in lines)), Bootstrap(SEED, 2000)
    rows = ["| variant | seeds | s | " + " | ".join(f"{title} | of {against} | difference" for title in COLUMNS) + " |", "|---" * (3 + 3 * len(COLUMNS)) + "|"]
    for name in names:
        own = [line for line in lines if line["variant"] == name]
        cells = [name, str(len(own)), f"{np.mean([line['seconds'] for line in own]):.0f}"]
        for suite, column in COLUMNS.values():
            mine, base = (np.mean([line["verdicts"][suite][column] for line in lines if line["variant"] == of], axis=0) for of in (name, against))
            ratio, difference = boot.ratio(mine, base), boot.difference(mine, base)
            cells += [f"{mine.mean():.3f}", "-" if ratio is None else f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"]
            cells += [f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tiny_distill", description=__doc__)
    parser.add_argument("--variant", choices=[*TEACHERS, *VARIANTS], default="final")
    parser.add_argument("--name", help="of the variant with the further settings; default: its own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], help="further settings, as key=value")
    parser.add_argument("--runs", type=Path, help="folder of a finished run of scale tiny")
    parser.add_argument("--summary", nargs="*", type=Path, help="outputs to make a table of")
    parser.add_argument("--against", default="teacher", help="variant among them that the others are compared with")
    given = parser.parse_args()
    if given.summary:
        print(summary(given.summary, given.against))
        return
    import torch

    from qi2.config import load
    from qi2.recipe import Recipe
    from tasks import settings

    torch.set_num_threads(1)
    changes = [*VARIANTS.get(given.variant, []), *given.set, f"seed={given.seed}"]
    recipe = load(Recipe, [settings.ROOT / "conf" / "scale" / "tiny.yaml"], changes)
    runs = given.runs or settings.ROOT / settings.runs_folder("tiny")
    floor = json.loads((runs / "evaluate" / "metrics.json").read_text())["edit/vae_floor_mae"]
    result = {"variant": given.name or given.variant, "seed": given.seed, "set": changes}
    print(json.dumps(result | measure(given.variant, recipe, runs, floor)))


if __name__ == "__main__":
    main()
