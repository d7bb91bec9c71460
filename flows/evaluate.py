"""Evaluate every model of a scale on held-out prompts."""

from prefect import flow

from flows.line import Outputs, Overrides, Scale, run_journey


@flow(name="evaluate", flow_run_name="evaluate-{scale}")
def evaluate(scale: Scale = "tiny", overrides: Overrides = None, from_stage: str | None = None) -> Outputs:
    """Bring stage `evaluate` and all it needs up to date; parameters as in `flows.full_training`."""
    return run_journey("evaluate", "evaluate", scale, overrides, from_stage)
