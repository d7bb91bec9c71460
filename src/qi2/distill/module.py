"""Distribution matching distillation with backward simulation (report section 4.3; DMD2 without its adversarial term)."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qi2.config import as_dict
from qi2.core import rng
from qi2.distill.config import DistillConfig
from qi2.models import flow
from qi2.models.config import SamplerConfig
from qi2.models.mmdit import MMDiT
from qi2.models.sampler import Guided, times
from qi2.models.sequence import Condition, Prefix
from qi2.objectives.dmd import dmd_gradient, dmd_loss
from qi2.objectives.flow_matching import flow_matching_loss
from qi2.training.data_plan import PlanSettings
from qi2.training.encoded import EncodedSet
from qi2.training.manual import ManualModule
from qi2.training.mixture import Mixture, Part, in_blocks


@dataclass
class Generated:
    """The student's samples of one task and shape: x (B, 64, h, w), and their condition. ``share``: how much of the step's batch they are."""

    task: str
    condition: Condition
    x: Tensor
    share: float = 1.0


class DistillModule(ManualModule):
    """A student, the fake score that follows its samples, and the frozen teacher whose guided score is the real one.

    One step is one update of the student and ``fake_updates`` of the fake score on the same samples with fresh noise. A batch is worked on
    in parts of one task and shape: guidance differs by task, and the parts of a batch count by their samples.
    """

    def __init__(self, teacher: MMDiT, data: EncodedSet, config: DistillConfig, sampler: SamplerConfig, seed: int) -> None:
        super().__init__(config.steps)
        self.model, self.fake = copy.deepcopy(teacher).requires_grad_(True), copy.deepcopy(teacher).requires_grad_(True)
        self.frozen = [teacher.requires_grad_(False)]  # in a list: no part of the module's state
        self.data, self.config, self.seed = data, config, seed
        self.schedule = sampler.few()
        self.sampler = sampler
        settings = PlanSettings(config.sizes, [config.batch_size] * len(config.sizes), config.ti2i_share, [], config.kind_weights, mixed=False)
        self.mixture = Mixture(data, config.stage, settings, seed, "distill")

    def facts(self) -> dict[str, Any]:
        return {"seed": self.seed, "distill": as_dict(self.config), "mmdit": as_dict(self.model.config)}

    @property
    def teacher(self) -> MMDiT:
        return self.frozen[0].to(self.device)

    def batch(self, step: int) -> Part:
        """Conditions of real samples; their images are not used."""
        return self.mixture.part(step)

    def training_step(self, batch: Part, _: int) -> None:
        draw = rng.generator(self.seed, "distill/noise", self.steps_done)
        exit_step = int(torch.randint(self.schedule.steps, (1,), generator=draw))
        generated = [self.generate(part, exit_step, draw, len(part.samples) / len(batch.samples)) for part in batch.alike()]
        loss = torch.stack([part.share * self.student_loss(part, draw) for part in generated]).sum()
        self.observe({"distill/loss_student": loss.detach()})
        self.update(loss)
        for _ in range(self.config.fake_updates):
            loss = torch.stack([part.share * self.fake_loss(part, draw) for part in generated]).sum()
            self.observe({"distill/loss_fake": loss.detach()})
            self.update(loss, index=1)
        self.advance()

    def generate(self, part: Part, exit_step: int, draw: torch.Generator, share: float = 1.0) -> Generated:
        """Backward simulation: the student's own Euler steps before ``exit_step`` without gradient, then its clean prediction there.

        Eq. 4 allows both the trajectory's end and a clean prediction on the way. With Euler steps the first noise decides the picture;
        DMD2's fresh noise after every step lets a small student decide anew each time, and counts and relations suffer.
        """
        condition = self.data.condition(part.samples)
        shape = torch.stack([sample.target for sample in part.samples]).shape
        prefix = self.model.encode_condition(condition)
        x = torch.randn(shape, generator=draw).to(self.device)
        steps = times(self.schedule, [x[0, 0].numel()]).to(self.device)
        with torch.no_grad():
            for now, after in zip(steps[:exit_step], steps[1:], strict=False):
                x = x + (after - now) * self.model(x, now[None], prefix)
        t = steps[exit_step].expand(len(x))
        return Generated(part.samples[0].task, condition, flow.to_x0(x, self.model(x, t, prefix), t), share)

    def student_loss(self, generated: Generated, draw: torch.Generator) -> Tensor:
        """Moves the samples along the difference of the fake and the real score at a random noise level."""
        x_t, _, t = self._noised(generated.x.detach(), draw)
        with torch.no_grad():
            fake = self.fake(x_t, t, self.fake.encode_condition(generated.condition))
            real = self._real(generated, x_t, t)
        return dmd_loss(generated.x, dmd_gradient(generated.x.detach(), x_t, t, fake, real))

    def _real(self, generated: Generated, x_t: Tensor, t: Tensor) -> Tensor:
        guidance = self.config.guidance if generated.task == "t2i" else self.config.edit_guidance
        prefix, unconditional = self.teacher.encode_condition(generated.condition), None
        if guidance != 1:
            unconditional = self.teacher.encode_condition(self.data.unconditional(1)).repeat(len(x_t))
        return Guided(self.teacher, prefix, unconditional, guidance, self.sampler.guidance_rescale, self.sampler.guidance_interval)(x_t, t)

    def fake_loss(self, generated: Generated, draw: torch.Generator) -> Tensor:
        """Flow matching on the student's samples, without guidance."""
        x = generated.x.detach()
        x_t, noise, t = self._noised(x, draw)
        prefix: Prefix = self.fake.encode_condition(generated.condition)
        return flow_matching_loss(self.fake(x_t, t, prefix), x, noise)

    def _noised(self, x: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Equation 5: samples at logit-normal times, with the noise and the times."""
        t = flow.logit_normal((len(x),), self.config.t_mean, self.config.t_std, draw).to(x.device)
        noise = torch.randn(x.shape, generator=draw).to(x.device)
        return flow.interpolate(x, noise, t), noise, t

    def configure_optimizers(self) -> Any:
        return [self.scheduled(self.model, self.config.student, in_blocks), self.scheduled(self.fake, self.config.fake, in_blocks)]
