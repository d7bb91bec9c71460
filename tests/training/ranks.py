"""Run by test_scale.py, in one process or in several: trains a tiny MMDiT and writes what came of it."""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from qi2.core.errors import Interrupted
from qi2.core.reporter import FileReporter, NullReporter
from qi2.core.rng import generator
from qi2.models import flow
from qi2.models.config import MMDiTConfig
from qi2.models.mmdit import MMDiT
from qi2.models.sequence import EncodedPrompt, collate
from qi2.training.config import EngineConfig, OptimizerConfig
from qi2.training.fit import fit
from qi2.training.share import Share
from qi2.training.step_module import StepModule

MODEL = MMDiTConfig(layers=2, width=32, heads=2, context_width=16, rope_axes=[4, 6, 6], image_shortcut=True)


class Flow(StepModule):
    """T2I and TI2I samples of unequal length; every second one has a reference."""

    shards = True

    def __init__(self, steps: int, stop: int) -> None:
        super().__init__(steps)
        self.stop = stop
        torch.manual_seed(0)
        self.model = MMDiT(MODEL)
        torch.nn.init.normal_(self.model.proj_out.weight, std=0.02)

    def part(self, step: int, share: Share) -> list[tuple[EncodedPrompt, list[torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor]]:
        return [sample(8 * step + i, edit=i % 2 == 1) for i in share.of(range(8))]

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        if self.steps_done == self.stop and self.share.rank == self.share.ranks - 1:
            os.kill(os.getpid(), signal.SIGTERM)  # only the last process is told
        prompts, references, x0, noise, t = zip(*batch, strict=True)
        x0, noise, t = torch.stack(x0), torch.stack(noise), torch.stack(t)
        prefix = self.model.encode_condition(collate(prompts, references))
        velocity = self.model(flow.interpolate(x0, noise, t), t, prefix)
        return (velocity - flow.velocity(x0, noise)).square().mean()

    def parts(self) -> list[tuple[torch.nn.Module, list[str]]]:
        return [*((block, ["keys_values"]) for block in self.model.blocks), (self.model, ["encode_condition"])]

    def configure_optimizers(self) -> Any:
        return self.scheduled(self.model, OptimizerConfig(lr=3e-3, warmup=2))


def sample(i: int, edit: bool) -> tuple[EncodedPrompt, list[torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = generator(0, "sample", i)
    words = 3 + i % 4
    text, x0, noise, reference = (torch.randn(*shape, generator=draw) for shape in ((words, 16), (64, 2, 2), (64, 2, 2), (64, 2, 2)))
    layout = [words - 1, None, 1] if edit else [words]
    return EncodedPrompt(text, layout), [reference] if edit else [], x0, noise, torch.rand((), generator=draw)


def main(out: Path, steps: int, stop: int, **engine: Any) -> None:
    module, settings = Flow(steps, stop), replace(EngineConfig(dry_run=False, precision="32", curve_points=steps), **engine)
    try:
        fit(
            module,
            "ranks",
            FileReporter(out) if os.environ.get("LOCAL_RANK", "0") == "0" else NullReporter(),
            engine=settings,
            checkpoints=out / "checkpoints",
            ema=0.9,
        )
    except Interrupted as error:
        raise SystemExit(75) from error
    module.model.save(out / "model")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), **json.loads(sys.argv[4]))
