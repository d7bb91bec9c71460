"""Align the model with GRPO."""

from prefect import flow

from flows.line import Outputs, Overrides, Scale, run_journey


@flow(name="rlhf", flow_run_name="rlhf-{scale}")
def rlhf(scale: Scale = "tiny", overrides: Overrides = None, from_stage: str | None = None) -> Outputs:
    """Bring stage `rlhf` and all it needs up to date; parameters as in `flows.full_training`."""
    return run_journey("rlhf", "rlhf", scale, overrides, from_stage)
