"""Distil the model to four steps."""

from prefect import flow

from flows.line import Outputs, Overrides, Scale, run_journey


@flow(name="distill", flow_run_name="distill-{scale}")
def distill(scale: Scale = "tiny", overrides: Overrides = None, from_stage: str | None = None) -> Outputs:
    """Bring stage `distill` and all it needs up to date; parameters as in `flows.full_training`."""
    return run_journey("distill", "distill", scale, overrides, from_stage)
