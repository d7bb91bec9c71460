"""What alignment and distillation cost: ``python -m benchmarks.alignment [--runs runs/tiny]``.

Networks of ``--scale``, from a finished run where one is given, else with random weights on random prompts. Works that are compared take
turns within one run; figures are ratios of medians. Last line JSON:

- ``rollout_vs_sampling``: images per second of a rollout by those of plain sampling with the same prompts, batch, steps and guidance, both
  to decoded pictures; the lower of the deterministic rollout (nft) and the stochastic one, which keeps its transitions (grpo).
- ``conditional_vs_guided``: seconds of one update of nft with the conditional branch alone (the report's objective) by those of the same
  update with both branches, in the trained policy and in the old one.
- ``student_speedup``: seconds of the guided teacher with ``sampler.steps`` by those of the student with ``sampler.few_steps``, from
  hidden states to latents; ``student_speedup_images``: to decoded pictures.
- ``dmd_step_s`` and ``dmd_parts_s``: median seconds of a step of distillation, and of its parts, for each of the two schedules.
"""

import argparse
import copy
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch

from benchmarks.mmdit import in_turns
from qi2.config import load
from qi2.core.reporter import NullReporter
from qi2.core.rng import generator
from qi2.distill.config import SCHEDULES
from qi2.distill.module import DistillModule
from qi2.models import flow
from qi2.models.config import Schedule
from qi2.models.mmdit import MMDiT
from qi2.models.pixels import to_images
from qi2.models.sampler import Guided, sample
from qi2.models.sequence import EncodedPrompt, Prefix, collate
from qi2.models.vae import VAE, over_white
from qi2.objectives.policy import nft_loss
from qi2.recipe import Recipe, scale_layers
from qi2.rlhf.prompts import Prompt
from qi2.rlhf.rollout import Sampler
from qi2.training.encoded import EncodedSet, latent_writer, write
from qi2.training.fit import fit
from tasks import settings

ROWS, LENGTHS, KEPT_OUT = 256, (4, 12), 2  # random samples, range of their prompts' lengths; first steps of distillation that warm up
PARTS = ("generate", "fake_score", "real_score", "student_update", "fake_update")


@dataclass
class Networks:
    """What is measured: an MMDiT, a VAE, encoded prompts (the first is the empty one), and the recipe that says how they are used."""

    recipe: Recipe
    model: MMDiT
    vae: VAE
    data: EncodedSet
    device: str

    @staticmethod
    def of_run(recipe: Recipe, runs: Path, device: str) -> "Networks":
        return Networks(recipe, MMDiT.load(runs / "rlhf").to(device), VAE.load(runs / "vae").to(device), EncodedSet(runs / "encoded"), device)

    @staticmethod
    def random(recipe: Recipe, folder: Path, device: str) -> "Networks":
        """``folder`` receives the encoded samples."""
        torch.manual_seed(0)
        model = MMDiT(recipe.mmdit)
        for p in model.parameters():
            torch.nn.init.normal_(p, std=0.02)
        side = recipe.rlhf.size // recipe.vae.model.factor
        size, prompts = recipe.distill.sizes[0], [EncodedPrompt(torch.randn(n, recipe.mmdit.context_width), [n]) for n in lengths(ROWS + 1)]
        row = {"task": "t2i", "kind": "one", "reference_images": [], "stages": [recipe.distill.stage], "side": size}
        write(folder, pd.DataFrame([row | {"id": str(i), "image": i, f"prompts_{size}": [i + 1]} for i in range(ROWS)]), prompts, {})
        latents = latent_writer(folder, size, recipe.mmdit.latent_channels, [(side, side)] * ROWS)
        for i in range(ROWS):
            latents.put(i, torch.randn(recipe.mmdit.latent_channels, side, side))
        return Networks(recipe, model.to(device), VAE(recipe.vae.model).requires_grad_(False).to(device), EncodedSet(folder), device)

    def prompts(self, n: int) -> list[Prompt]:
        """Encoded prompts of n T2I samples."""
        rows = self.data.rows[self.data.rows["task"] == "t2i"]
        found = [int(p[0]) for p in rows[f"prompts_{self.recipe.rlhf.size}"] if len(p)][:n]
        return [Prompt("one", "", encoded=self.data.prompts[i]) for i in found]

    def noise(self, n: int) -> torch.Tensor:
        side = self.recipe.rlhf.size // self.vae.cfg.factor
        return torch.randn(n, self.vae.cfg.latent_channels, side, side, generator=generator(0, "benchmark")).to(self.device)

    def prefixes(self, prompts: list[Prompt], group: int, guidance: float, model: MMDiT) -> tuple[Prefix, Prefix | None]:
        """Of each prompt ``group`` times, and of the empty one where guidance needs it."""
        condition = collate([p.encoded for p in prompts], [[] for _ in prompts])
        unconditional = None if guidance == 1 else model.encode_condition(self.data.unconditional(1)).repeat(len(prompts) * group)
        return model.encode_condition(condition).repeat(group), unconditional

    @torch.no_grad()
    def draw(self, prompts: list[Prompt], group: int, schedule: Schedule, guidance: float, pictures: bool) -> Any:
        """Plain sampling."""
        velocity = Guided(self.model, *self.prefixes(prompts, group, guidance, self.model), guidance)
        x = sample(velocity, self.noise(len(prompts) * group), schedule)
        return to_images(over_white(self.vae.decode(x))) if pictures else x


def lengths(n: int) -> list[int]:
    return torch.randint(LENGTHS[0], LENGTHS[1] + 1, (n,), generator=generator(0, "lengths")).tolist()


def rollouts(nets: Networks, repeats: int) -> dict[str, float]:
    """Rollouts of both objectives beside plain sampling."""
    cfg = nets.recipe.rlhf
    prompts, roll = nets.prompts(cfg.rollout.prompts), cfg.rollout
    sampler = Sampler(roll, cfg.size, nets.recipe.sampler, nets.vae, nets.data.prompts[0], {})
    plain = partial(nets.draw, prompts, roll.group, nets.recipe.sampler.schedule(roll.steps), roll.guidance, True)
    nft, grpo = (partial(sampler, nets.model, prompts, 0, 0, stochastic) for stochastic in (False, True))
    seconds = in_turns([plain, nft, grpo], repeats, nets.device)
    ratios = {"rollout_vs_sampling_nft": seconds[0] / seconds[1], "rollout_vs_sampling_grpo": seconds[0] / seconds[2]}
    return {"rollout_vs_sampling": min(ratios.values())} | ratios


class Objective:
    """An update of nft on one rollout, with or without the unconditional branch."""

    def __init__(self, nets: Networks, guidance: float) -> None:
        roll = nets.recipe.rlhf.rollout
        self.nets, self.guidance, self.group, self.prompts = nets, guidance, roll.group, nets.prompts(roll.prompts)
        self.model, self.old = copy.deepcopy(nets.model), copy.deepcopy(nets.model).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6)
        self.x0 = nets.noise(len(self.prompts) * roll.group)
        self.t = torch.rand(len(self.x0), generator=generator(0, "times")).to(nets.device)

    def velocity(self, model: MMDiT, x_t: torch.Tensor) -> torch.Tensor:
        return Guided(model, *self.nets.prefixes(self.prompts, self.group, self.guidance, model), self.guidance)(x_t, self.t)

    def __call__(self) -> None:
        x_t = flow.interpolate(self.x0, torch.randn_like(self.x0), self.t)
        with torch.no_grad():
            old = self.velocity(self.old, x_t)
        loss = nft_loss(self.velocity(self.model, x_t), old, x_t, self.x0, self.t, torch.full_like(self.t, 0.5), 1.0)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def objectives(nets: Networks, repeats: int) -> dict[str, float]:
    """The report's objective beside one with guidance."""
    guidance = nets.recipe.rlhf.rollout.guidance
    conditional, guided = in_turns([Objective(nets, 1.0), Objective(nets, guidance if guidance != 1 else 2.0)], repeats, nets.device)
    return {"conditional_vs_guided": conditional / guided}


def students(nets: Networks, batch: int, repeats: int) -> dict[str, float]:
    """The student's few steps beside the teacher's many."""
    prompts, s = nets.prompts(batch), nets.recipe.sampler
    many, few = (s.schedule(), s.guidance), (s.few(), 1.0)
    works = [partial(nets.draw, prompts, 1, *how, pictures) for pictures in (False, True) for how in (many, few)]
    seconds = in_turns(works, repeats, nets.device)
    speedups = {"student_speedup": seconds[0] / seconds[1], "student_speedup_images": seconds[2] / seconds[3]}
    return speedups | {"teacher_s": seconds[0], "student_s": seconds[1]}


class Points(NullReporter):
    """Keeps the points of a run's curves."""

    def __init__(self) -> None:
        self.found: list[Mapping[str, float]] = []

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self.found.append(values)


def distillation(nets: Networks, schedules: str, steps: int) -> dict[str, Any]:
    """A step of distillation by its parts."""
    config = replace(nets.recipe.distill, schedules=schedules, steps=steps, fake_warmup=0, ti2i_share=0.0)
    module, points = DistillModule(copy.deepcopy(nets.model), nets.data, config, nets.recipe.sampler, 0), Points()
    fit(module, "benchmark", points, engine=replace(nets.recipe.engine, curve_points=steps, pictures=0))
    own = [point for point in points.found if "speed/step_s" in point][KEPT_OUT:]
    parts = {part: round(median(point[f"speed/{part}_s"] for point in own), 5) for part in PARTS}
    return {"dmd_step_s": median(point["speed/step_s"] for point in own), "dmd_parts_s": parts}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alignment", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="tiny", choices=settings.SCALES)
    parser.add_argument("--runs", type=Path, help="a finished run of that scale; none: random weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64, help="images that teacher and student draw at once")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--dmd-steps", type=int, default=24)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recipe = load(Recipe, scale_layers(settings.ROOT / "conf", args.scale))
    with tempfile.TemporaryDirectory() as folder:
        nets = Networks.of_run(recipe, args.runs, args.device) if args.runs else Networks.random(recipe, Path(folder), args.device)
        result: dict[str, Any] = {"scale": args.scale, "runs": bool(args.runs), "device": args.device, "threads": args.threads, "batch": args.batch}
        result |= rollouts(nets, args.repeats) | objectives(nets, args.repeats) | students(nets, args.batch, args.repeats)
        for schedules in SCHEDULES:
            ending = "" if schedules == "shared" else f"_{schedules}"
            result |= {name + ending: value for name, value in distillation(nets, schedules, args.dmd_steps).items()}
    print(json.dumps({name: round(value, 4) if isinstance(value, float) else value for name, value in result.items()}))


if __name__ == "__main__":
    main()
