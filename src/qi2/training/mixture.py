"""Real samples for the methods that start from a trained MMDiT: a mixture of T2I and TI2I rows of one manifest."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qi2.models import flow
from qi2.models.mmdit import MMDiT
from qi2.objectives.flow_matching import flow_matching_loss
from qi2.training.encoded import Draw, EncodedSet, Sample


@dataclass
class Part:
    """A batch: samples of one task, which are of like length; ``drop`` says which lose their condition (unconditional dropout)."""

    task: str
    samples: list[Sample]
    drop: list[bool]


class Mixture:
    """Draws batches from the rows that manifest ``stage`` keeps; a batch is all T2I or all TI2I, so that none is padded to the other's length.

    ti2i_share: of the batches, where the manifest has both tasks. weights: relative draw weight per kind, 1 where absent.
    """

    def __init__(self, data: EncodedSet, stage: int, ti2i_share: float, weights: dict[str, float]) -> None:
        rows = data.rows[data.rows["stages"].map(lambda stages: stage in stages)]
        t2i, edits = rows[rows["task"] == "t2i"], rows[rows["task"] == "ti2i"]
        self.data = data
        self.draws = {"t2i": Draw(t2i, weights), "ti2i": Draw(edits, weights)}
        self.share = (ti2i_share if len(edits) else 0.0) if len(t2i) else 1.0

    def draw(self, draw: np.random.Generator, n: int, size: int, dropout: float = 0.0) -> Part:
        """``n`` samples at ``size`` pixels."""
        task = "ti2i" if draw.random() < self.share else "t2i"
        samples = [self.data.sample(row, size, draw) for row in self.draws[task](draw, n)]
        return Part(task, samples, (draw.random(n) < dropout).tolist())


def supervised_loss(model: MMDiT, data: EncodedSet, part: Part, t: Tensor, generator: torch.Generator) -> Tensor:
    """Flow-matching loss on real samples at times t (B,)."""
    x0 = torch.stack([sample.target for sample in part.samples]).to(t.device)
    noise = torch.randn(x0.shape, generator=generator).to(t.device)
    prefix = model.encode_condition(data.condition(part.samples, part.drop))
    return flow_matching_loss(model(flow.interpolate(x0, noise, t), t, prefix), x0, noise)


def in_blocks(name: str) -> bool:
    """Matrices inside the MMDiT's blocks: what Muon may take."""
    return name.startswith("blocks.")
