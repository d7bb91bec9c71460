"""Train one phase of the MMDiT: pre-training (report stages 1-3), continual training (4-5) or supervised fine-tuning (6)."""

from typing import Literal

from prefect import flow

from flows.line import Outputs, Overrides, Scale, run_journey

Phase = Literal["pretrain", "continual", "sft"]


@flow(name="train-stage", flow_run_name="train-stage-{stage}-{scale}")
def train_stage(stage: Phase = "sft", scale: Scale = "tiny", overrides: Overrides = None, from_stage: str | None = None) -> Outputs:
    """Bring one phase and all it needs up to date; other parameters as in `flows.full_training`."""
    return run_journey("train-stage", stage, scale, overrides, from_stage)
