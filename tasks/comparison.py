"""One MLflow run per evaluated model, in an experiment of their own: equal keys there are what the chart view and the comparison put side by side."""

import json

from PIL import Image

from qi2.evaluation.models import LABELS
from tasks import config, settings, tracking

SUITES = {"t2i": "prompt", "edit": "edit"}  # name of an evaluation's samples, and of their pictures in MLflow


def log_models(scale: str, parent: str) -> None:
    """Figures and tracked samples (``samples/prompt0`` ...) of every model that the last evaluation judged, under the same keys for all.

    ``parent``: the pipeline run, noted as tag ``line``; its models are logged once.
    """
    results = settings.ROOT / settings.runs_folder(scale) / "evaluate"
    figures = json.loads((results / "results.json").read_text())["figures"]
    tracker, experiment = tracking.client(), f"qi2-{scale}-models"
    if tracker.search_runs([tracking.experiment_id(tracker, experiment)], f"tags.line = '{parent}'", max_results=1):
        return
    for model in (name for name in LABELS if (results / "samples" / name).is_dir()):
        run = tracking.start_run(tracker, experiment, LABELS[model], {"kind": "model", "stage": model, "scale": scale, "line": parent})
        values = {name.removesuffix(f"/{model}"): figure["value"] for name, figure in figures.items() if name.endswith(f"/{model}")}
        tracking.log_metrics(tracker, run, values)
        for suite, key in SUITES.items():
            for index in range(config.read(scale).evaluate.tracked):
                path = results / "samples" / model / f"{suite}-{index}.png"
                if path.exists():
                    with Image.open(path) as picture:
                        tracker.log_image(run, picture.copy(), key=f"samples/{key}{index}", step=0)
        tracker.set_terminated(run)
