"""Real samples for the methods that train the MMDiT: T2I and TI2I of one manifest in the same batch, as the data plan says."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from qi2.core import rng
from qi2.models import flow
from qi2.models.mmdit import MMDiT
from qi2.models.sequence import Copyable, Targets
from qi2.objectives.copying import copying_losses
from qi2.objectives.flow_matching import flow_matching_losses
from qi2.training.aligner import Aligner
from qi2.training.data_plan import DataPlan, PlanSettings
from qi2.training.encoded import EncodedSet, Sample
from qi2.training.share import WHOLE, Share


@dataclass
class Part:
    """A batch of one size, of any tasks and aspect buckets. ``drop``: which lose their condition (unconditional dropout); numbers (B,): see `StepPlan`."""

    size: int
    samples: list[Sample]
    drop: list[bool]
    numbers: np.ndarray

    @property
    def tasks(self) -> list[str]:
        """Per sample, t2i or ti2i."""
        return [sample.task for sample in self.samples]

    @property
    def features(self) -> list[Tensor]:
        """Per sample, the target's vision features (C, h, w), where the data were opened with them."""
        return [sample.features for sample in self.samples if sample.features is not None]

    @property
    def refers(self) -> bool:
        """Whether any sample reads a reference image."""
        return any(sample.references and not gone for sample, gone in zip(self.samples, self.drop, strict=True))

    def split(self, n: int) -> list["Part"]:
        """Into n micro-batches. Raises QI2Error where they would not be equal."""
        return [self.only(share.of(range(len(self.samples)))) for share in Share(micros=n).split()]

    def only(self, own: Sequence[int]) -> "Part":
        """Some of the samples."""
        return Part(self.size, [self.samples[i] for i in own], [self.drop[i] for i in own], self.numbers[list(own)])


class Mixture:
    """Batches of manifest ``stage`` by a `DataPlan`; captions, dropout and noise are keyed by the samples' numbers."""

    def __init__(self, data: EncodedSet, stage: int, settings: PlanSettings, seed: int, name: str, first: int = 0) -> None:
        self.data, self.seed, self.name = data, seed, name
        self.plan = DataPlan(data.plan_rows(stage, settings.sizes, settings.ti2i_share), settings, seed, f"{name}/{stage}", first)

    def part(self, step: int, dropout: float = 0.0, share: Share = WHOLE) -> Part:
        """A step's samples, or a share of them; no others are read."""
        own = self.plan.step(step).part(share)
        draws = [rng.numpy_rng(self.seed, f"{self.name}/sample", number) for number in own.samples.tolist()]
        samples = self.data.samples(own.rows.tolist(), own.size, draws)
        return Part(own.size, samples, [bool(draw.random() < dropout) for draw in draws], own.samples)


@dataclass
class Noised:
    """Real samples on their way to noise: targets, noise and states, each (B, 64, h, w) or a list of (64, h, w); times (B,)."""

    x0: Tensor | list[Tensor]
    noise: Tensor | list[Tensor]
    x_t: Tensor | list[Tensor]
    t: Tensor


def add_noise(part: Part, mean: float, std: float, seed: int, purpose: str, device: torch.device) -> Noised:
    """Logit-normal times and noise of every sample, keyed by its number: the same in whatever batch it comes."""
    draws = [rng.generator(seed, purpose, int(number)) for number in part.numbers]
    t = torch.cat([flow.logit_normal((1,), mean, std, draw) for draw in draws]).to(device)
    targets = [sample.target for sample in part.samples]
    noises = [torch.randn(x.shape, generator=draw) for x, draw in zip(targets, draws, strict=True)]
    if len({x.shape for x in targets}) == 1:
        x0, noise = torch.stack(targets).to(device), torch.stack(noises).to(device)
        return Noised(x0, noise, flow.interpolate(x0, noise, t), t)
    clean, noisy = [x.to(device) for x in targets], [x.to(device) for x in noises]
    states = [flow.interpolate(x[None], n[None], time[None])[0] for x, n, time in zip(clean, noisy, t, strict=True)]
    return Noised(clean, noisy, states, t)


def supervised_losses(model: MMDiT, data: EncodedSet, part: Part, noised: Noised, elsewhere: bool = False) -> Tensor:
    """Flow-matching loss of every real sample (B,). elsewhere: whether any process's samples have references, where weights are sharded."""
    drawn, choice, _, copyable = model.learn(data.condition(part.samples, part.drop), noised.x_t, noised.t, 0, elsewhere)
    return _losses(drawn, choice, noised, copyable)


def aligned_losses(
    model: MMDiT, aligner: Aligner, data: EncodedSet, part: Part, noised: Noised, elsewhere: bool = False
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The same, and what the model's hidden states lack to the vision features of the clean pictures, 1 - cosine (B,)."""
    condition = data.condition(part.samples, part.drop)
    drawn, choice, hidden, copyable = model.learn(condition, noised.x_t, noised.t, aligner.block, elsewhere)
    assert hidden is not None
    return _losses(drawn, choice, noised, copyable), aligner.losses(hidden, part.features, Targets(noised.x_t))


def _losses(drawn: Tensor, choice: Tensor | None, noised: Noised, copyable: Copyable | None) -> Tensor:
    """Of the velocity drawn as tokens (..., 64), and of what was copied where anything could be."""
    targets = Targets(noised.x_t)
    if choice is None or copyable is None:
        return flow_matching_losses(targets.images(drawn.to(noised.x_t[0].dtype)), noised.x0, noised.noise)
    own = targets.ragged
    x0, noise = (own.pad(targets.tokens(x)).to(drawn) for x in (noised.x0, noised.noise))
    return copying_losses(own.pad(drawn), choice, x0, noise, copyable, own.valid.to(drawn.device))


def in_blocks(name: str) -> bool:
    """Matrices inside the MMDiT's blocks: what Muon may take."""
    return name.startswith("blocks.")


def shardable(model: MMDiT) -> list[tuple[nn.Module, list[str]]]:
    """The MMDiT's parts for `StepModule.parts`."""
    blocks: list[tuple[nn.Module, list[str]]] = [(block, ["keys_values"]) for block in model.blocks]
    return [*blocks, (model, ["encode_condition", "predict", "learn"])]
