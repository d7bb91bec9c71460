"""Make or read the data and curate them for each training stage; the data checks decide whether they may be used."""

from prefect import flow

from flows.line import Outputs, Overrides, Scale, run_journey


@flow(name="curate", flow_run_name="curate-{scale}")
def curate(scale: Scale = "tiny", overrides: Overrides = None, from_stage: str | None = None) -> Outputs:
    """Bring the data sets of the training stages and all they need up to date; parameters as in `flows.full_training`."""
    return run_journey("curate", "datasets", scale, overrides, from_stage)
