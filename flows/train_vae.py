"""Train the VAE."""

from prefect import flow

from flows.line import Outputs, Overrides, Scale, run_journey


@flow(name="train-vae", flow_run_name="train-vae-{scale}")
def train_vae(scale: Scale = "tiny", overrides: Overrides = None, from_stage: str | None = None) -> Outputs:
    """Bring stage `vae` and all it needs up to date; parameters as in `flows.full_training`."""
    return run_journey("train-vae", "vae", scale, overrides, from_stage)
