"""Train the five reward models."""

from prefect import flow

from flows.line import Outputs, Overrides, Scale, run_journey


@flow(name="train-rewards", flow_run_name="train-rewards-{scale}")
def train_rewards(scale: Scale = "tiny", overrides: Overrides = None, from_stage: str | None = None) -> Outputs:
    """Bring stage `rewards` and all it needs up to date; parameters as in `flows.full_training`."""
    return run_journey("train-rewards", "rewards", scale, overrides, from_stage)
