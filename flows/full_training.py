"""The whole line: data, VAE, the six training stages, rewards, GRPO, distillation, evaluation, promotion, report."""

from typing import Any

from prefect import flow

from flows.line import Line, Overrides, Scale


@flow(name="full-training", flow_run_name="full-training-{scale}")
def full_training(scale: Scale = "tiny", overrides: Overrides = None, from_stage: str | None = None) -> dict[str, Any]:
    """Bring every stage of ``scale`` up to date, offer the model for promotion, and build the report.

    ``overrides`` changes keys of the configuration for this run, e.g. {"sft.steps": 200}; ``from_stage`` runs that stage and
    all that follow even when nothing has changed.
    """
    with Line("full-training", scale, overrides, from_stage) as line:
        if line.unchanged:
            line.say_unchanged()
            return line.finished()
        line.train()
        return dict(line.finish())
