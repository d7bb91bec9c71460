"""Run by test_distill_ranks.py, in one process or in several: distils the small world's MMDiT."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from qi2.core.errors import Interrupted
from qi2.core.reporter import FileReporter, NullReporter
from qi2.distill.config import DistillConfig
from qi2.distill.module import DistillModule
from qi2.models.config import LoRAConfig, SamplerConfig
from qi2.models.lora import merge
from qi2.models.mmdit import MMDiT
from qi2.training.config import EngineConfig, OptimizerConfig
from qi2.training.encoded import EncodedSet
from qi2.training.fit import fit


class Told(DistillModule):
    """Is told to stop in the last process, in a step of the student."""

    stop = -1

    def training_step(self, batch: Any, _: int) -> None:
        if self.steps_done == self.stop and self.share.rank == self.share.ranks - 1:
            os.kill(os.getpid(), 15)
        super().training_step(batch, _)


def main(out: Path, encoded: Path, model: Path, rank: int, stop: int, **engine: Any) -> None:
    rate = OptimizerConfig(lr=1e-3, warmup=1)
    config = DistillConfig(steps=4, sizes=[64], batch_size=8, ti2i_share=0.5, fake_updates=2, fake_warmup=2, schedules="decoupled", student=rate, fake=rate)
    module = Told(MMDiT.load(model), EncodedSet(encoded), replace(config, lora=LoRAConfig(rank=rank)), SamplerConfig(), 0)
    module.stop = stop
    reporter = FileReporter(out) if os.environ.get("LOCAL_RANK", "0") == "0" else NullReporter()
    try:
        fit(module, "ranks", reporter, engine=replace(EngineConfig(precision="32", curve_points=6), **engine), checkpoints=out / "checkpoints", ema=0.5)
    except Interrupted as error:
        raise SystemExit(75) from error
    (merge(module.model) if rank else module.model).save(out / "model")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), int(sys.argv[4]), int(sys.argv[5]), **json.loads(sys.argv[6]))
