"""A step of the largest batch before the first one: memory runs out in minute one or not at all; and a step's arithmetic is counted."""

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from qi2.core.errors import QI2Error
from qi2.training.step_module import StepModule


def dry_run(module: StepModule, batch: Any) -> float:
    """Forward and backward of one micro-batch, without a trace; returns its FLOPs.

    Raises QI2Error with advice where the memory does not suffice.
    """
    counter = FlopCounterMode(display=False)
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    try:
        with counter, module.trainer.precision_plugin.train_step_context():
            loss = module.training_step(module.trainer.strategy.batch_to_device(batch), 0)
            assert isinstance(loss, torch.Tensor)
            loss.backward()
    except torch.OutOfMemoryError as error:
        raise QI2Error(
            f"the largest batch of this run does not fit ({str(error).splitlines()[0]}). What helps, cheapest first: mmdit.checkpointing=true; "
            "a larger engine.accumulate; engine.strategy=fsdp over more engine.devices; a smaller batch or size; `qi2 plan` says what fits"
        ) from error
    module.zero_grad(set_to_none=True)
    for name, buffer in module.named_buffers():
        buffer.copy_(buffers[name])
    module.tally.clear()
    return float(counter.get_total_flops())
