"""Distribution matching distillation with backward simulation (report section 4.3; DMD2 without its adversarial term)."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from qi2.config import as_dict
from qi2.core import rng
from qi2.distill.config import DistillConfig
from qi2.distill.latents import Draws, Latents, each
from qi2.models import flow
from qi2.models.config import LoRAConfig, SamplerConfig
from qi2.models.lora import add_adapter
from qi2.models.mmdit import MMDiT
from qi2.models.sampler import Guided, times
from qi2.models.sequence import Condition
from qi2.objectives.dmd import augmentation_gradient, dmd_gradient, dmd_losses
from qi2.objectives.flow_matching import flow_matching_loss
from qi2.training.data_plan import T2I, PlanSettings
from qi2.training.encoded import EncodedSet
from qi2.training.manual import ManualModule
from qi2.training.mixture import Mixture, Part, in_blocks, shardable
from qi2.training.scale import shard
from qi2.training.share import WHOLE, Share

STUDENT, FAKE = 0, 1  # the optimisers


@dataclass
class Generated:
    """The student's samples x of one task under their condition, predicted at its times t (B,)."""

    task: str
    condition: Condition
    x: Latents
    t: Tensor

    @property
    def fixed(self) -> Latents:
        """The samples without gradient."""
        return each(Tensor.detach, self.x)  # type: ignore[no-any-return]


class DistillModule(ManualModule):
    """A student, the fake score that follows its samples, and the frozen teacher whose guided score is the real one.

    One step is one update of the student and ``fake_updates`` of the fake score on the same samples with fresh noise; the first
    ``fake_warmup`` steps are one update of the fake score alone. A step is of one task, because guidance differs by task.
    """

    shards = True

    def __init__(self, teacher: MMDiT, data: EncodedSet, config: DistillConfig, sampler: SamplerConfig, seed: int) -> None:
        config.check()
        super().__init__(config.fake_warmup + config.steps)
        self.frozen = [teacher.requires_grad_(False)]  # in a list: no part of the module's state
        self.model, self.fake = (trained_copy(teacher, config.lora, rng.key(seed, f"distill/{name}")) for name in ("student", "fake"))
        self.data, self.config, self.sampler, self.seed = data, config, sampler, seed
        self.eager = data.online
        self.schedule = sampler.few()
        settings = PlanSettings(config.sizes, [config.batch_size] * len(config.sizes), config.ti2i_share, [], config.kind_weights, mixed=False)
        self.mixture = Mixture(data, config.stage, settings, seed, "distill")

    def facts(self) -> dict[str, Any]:
        own = {"distill": as_dict(self.config), "sampler": as_dict(self.sampler), "mmdit": as_dict(self.model.config)}
        return {"seed": self.seed, "data": self.mixture.plan.fingerprint(), **own}

    @property
    def teacher(self) -> MMDiT:
        return self.frozen[0].to(self.device)

    def batch(self, step: int) -> Part:
        return self.part(step, WHOLE)

    def part(self, step: int, share: Share) -> Part:
        """Conditions of real samples; their images are not used."""
        return self.mixture.part(step, share=share)

    def size(self, batch: Part) -> int:
        return len(batch.samples)

    def names(self, batch: Part) -> list[str]:
        return [str(self.data.rows["id"][sample.row]) for sample in batch.samples]

    def training_step(self, batch: Part, _: int) -> None:
        parts = batch.split(self.engine.accumulate)
        draws = [Draws(self.seed, "distill/noise", part.numbers) for part in parts]
        samples: list[Generated] = []
        if self.steps_done < self.config.fake_warmup:
            with torch.no_grad():
                samples += map(self.generate, parts, draws)
            self.train_fake(samples, draws)
            return self.advance(FAKE)
        with self.speed.part("student_update"):
            self.update_all(self.student_losses(parts, draws, samples), STUDENT)
        for _ in range(self.config.fake_updates):
            self.train_fake(samples, draws)
        return self.advance()

    def exit_step(self) -> int:
        """Which of the student's steps learns now; the same on all processes."""
        return int(torch.randint(self.schedule.steps, (1,), generator=rng.generator(self.seed, "distill/exit", self.steps_done)))

    def generate(self, part: Part, draws: Draws) -> Generated:
        """Backward simulation: the student's own Euler steps before `exit_step` without gradient, then its clean prediction there.

        Eq. 4 allows both the trajectory's end and a clean prediction on the way. With Euler steps the first noise decides the picture;
        DMD2's fresh noise after every step lets a small student decide anew each time, and counts and relations suffer.
        """
        n, exit_step = len(part.samples), self.exit_step()
        with self.speed.part("generate"):
            condition = self.data.condition(part.samples)
            prefix = self.model.encode_condition(condition)
            x = draws.normal([sample.target.shape for sample in part.samples], self.device)
            steps = times(self.schedule, [sample.target[0].numel() for sample in part.samples]).to(self.device)
            with torch.no_grad():
                for now, after in zip(steps[:exit_step], steps[1:], strict=False):
                    x = each(_euler_step, x, self.model(x, now.reshape(-1), prefix), (after - now).expand(n))
            t = steps[exit_step].expand(n)
            return Generated(part.samples[0].task, condition, each(flow.to_x0, x, self.model(x, t, prefix), t), t)

    def student_losses(self, parts: list[Part], draws: list[Draws], samples: list[Generated]) -> Iterator[Tensor]:
        """Move the samples against eq. 4's gradient; without gradient they are left in ``samples`` for the fake score."""
        for part, own in zip(parts, draws, strict=True):
            generated = self.generate(part, own)
            gradient = self.gradient(generated, own)
            loss = torch.stack(list(each(dmd_losses, generated.x, gradient))).mean()
            self.observe({"distill/loss_student": loss.detach()})
            samples.append(replace(generated, x=generated.fixed))
            yield loss / len(parts)

    @torch.no_grad()
    def gradient(self, generated: Generated, draws: Draws) -> Latents:
        """The difference of the fake and the real score at a random noise level; with decoupled schedules guidance has one of its own."""
        x = generated.fixed
        x_t, _, t = self.noised(x, draws.logit_normal(self.config.t_mean, self.config.t_std), draws)
        with self.speed.part("fake_score"):
            fake = self.fake(x_t, t, self.fake.encode_condition(generated.condition))
        with self.speed.part("real_score"):
            scale = self.config.guidance if generated.task == T2I else self.config.edit_guidance
            prefix = self.teacher.encode_condition(generated.condition)
            unconditional = None if scale == 1 else self.teacher.encode_condition(self.data.unconditional(1)).repeat(len(x))
            if self.config.schedules == "shared":
                real: Any = Guided(self.teacher, prefix, unconditional, scale, self.sampler.guidance_rescale, self.sampler.guidance_interval)
                return each(dmd_gradient, x, x_t, t, fake, real(x_t, t))  # type: ignore[no-any-return]
            matching = each(dmd_gradient, x, x_t, t, fake, self.teacher(x_t, t, prefix))
            if unconditional is None:
                return matching  # type: ignore[no-any-return]
            x_t, _, t = self.noised(x, self.augmentation_times(generated.t, draws), draws)
            velocities = self.teacher(x_t, t, prefix), self.teacher(x_t, t, unconditional)
            return each(torch.add, matching, each(partial(augmentation_gradient, scale=scale), x, x_t, t, *velocities))  # type: ignore[no-any-return]

    def augmentation_times(self, t: Tensor, draws: Draws) -> Tensor:
        """Uniform between data (0) and the student's own times (B,): only what the student still draws there is undecided."""
        return t * draws.uniform().to(t)

    def train_fake(self, samples: list[Generated], draws: list[Draws]) -> None:
        """An update of the fake score."""
        with self.speed.part("fake_update"):
            self.update_all((self.fake_loss(part, own) / len(samples) for part, own in zip(samples, draws, strict=True)), FAKE)

    def fake_loss(self, generated: Generated, draws: Draws) -> Tensor:
        """Flow matching on the student's samples, without guidance."""
        x = generated.fixed
        x_t, noise, t = self.noised(x, draws.logit_normal(self.config.t_mean, self.config.t_std), draws)
        loss = flow_matching_loss(self.fake(x_t, t, self.fake.encode_condition(generated.condition)), x, noise)
        self.observe({"distill/loss_fake": loss.detach()})
        return loss

    def noised(self, x: Latents, t: Tensor, draws: Draws) -> tuple[Latents, Latents, Tensor]:
        """Equation 5 at times t: the noisy samples, the noise, and the times beside them."""
        noise, t = draws.normal([sample.shape for sample in x], self.device), t.to(self.device)
        return each(flow.interpolate, x, noise, t), noise, t

    def configure_model(self) -> None:
        """Shard the fake score and the teacher as the student is."""
        if self.engine.strategy == "fsdp" and not self.prepared:
            for network in (self.fake, self.teacher):
                shard(network, shardable(network), self.device_mesh, self.engine.precision)  # type: ignore[arg-type]
        super().configure_model()

    def parts(self) -> list[tuple[nn.Module, list[str]]]:
        return shardable(self.model)

    def configure_optimizers(self) -> Any:
        student = self.scheduled(self.model, self.config.student, in_blocks, self.config.steps)
        return [student, self.scheduled(self.fake, self.config.fake, in_blocks)]


def trained_copy(teacher: MMDiT, lora: LoRAConfig, seed: int) -> MMDiT:
    """A network that begins as the teacher: with weights of its own or, with LoRA, the teacher's very weights under an adapter of its own."""
    if not lora.rank:
        return copy.deepcopy(teacher).requires_grad_(True)
    torch.manual_seed(seed)
    return add_adapter(copy.deepcopy(teacher, {id(p): p for p in teacher.parameters()}), lora)


def _euler_step(x: Tensor, v: Tensor, step: Tensor) -> Tensor:
    return x + flow.expand(step, x) * v
