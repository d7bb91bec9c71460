"""``python -m tasks report``: the static page and summary.json of a scale's results."""

from qi2.evaluation.report import build_report
from tasks import config, settings


def main(scale: str) -> None:
    """Build ``runs/SCALE/report/``."""
    runs = settings.runs_folder(scale)
    build_report(config.read(scale), runs, runs / "report")
