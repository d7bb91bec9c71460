"""Reads what the stages of one run have published, for the report and the summary. Torch-free; a missing stage is simply absent."""

import csv
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from qi2.core.errors import QI2Error
from qi2.core.publish import MANIFEST
from qi2.evaluation.bootstrap import Figure

STAGES = ("raw", "standins", "curated", "vae", "pretrain", "continual", "sft", "rewards", "rlhf", "distill", "enhancer_sft", "enhancer", "evaluate")
CHAIN = ("pretrain", "continual", "sft", "rlhf", "distill")


class RunFolder:
    """``runs/<scale>``: one folder per stage, each with metrics.json, curves.csv and a manifest of hashes where it was published."""

    def __init__(self, path: Path, links: Mapping[str, str] = MappingProxyType({}), price: float = 0.0) -> None:
        """``links``: where a tracker shows the run (``line``) and its stages; ``price``: USD per hour of the machine, 0 where it is not known."""
        self.path, self.links, self.price = Path(path), links, price

    def has(self, stage: str) -> bool:
        """Whether the stage has been published."""
        return (self.path / stage / MANIFEST).exists()

    def metrics(self, stage: str) -> dict[str, float]:
        """The stage's flat metrics; empty where it did not run."""
        return read_json(self.path / stage / "metrics.json", {})

    def steps(self, stage: str) -> float | None:
        """Optimiser steps of a training stage."""
        metrics = self.metrics(stage)
        return metrics.get(f"{stage}/steps", metrics.get("steps"))

    def curves(self, stage: str) -> dict[str, list[tuple[float, float]]]:
        """{metric name: [(step, value), ...]} of curves.csv, in the file's order."""
        path = self.path / stage / "curves.csv"
        found: dict[str, list[tuple[float, float]]] = {}
        if path.exists():
            with open(path, newline="") as handle:
                for row in csv.DictReader(handle):
                    found.setdefault(row["name"], []).append((float(row["step"]), float(row["value"])))
        return found

    def hashes(self, stage: str) -> dict[str, str]:
        """{relative path: sha256} of the stage's manifest, not recomputed."""
        return read_json(self.path / stage / MANIFEST, {}).get("files", {})

    @cached_property
    def results(self) -> dict[str, Any]:
        """evaluate/results.json; empty where evaluation did not run."""
        return read_json(self.path / "evaluate" / "results.json", {})

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """Evaluation's figures."""
        return {name: Figure(**value) for name, value in self.results.get("figures", {}).items()}

    @cached_property
    def timing(self) -> Mapping[str, Any]:
        """timing.json of the whole run: total_s, overhead_share, peak_gib, stages {name: {section: seconds}}; empty before a full run."""
        return read_json(self.path / "timing.json", {})

    def stage_seconds(self, stage: str) -> float | None:
        """Wall seconds of a stage, or None where the run did not time it."""
        sections = self.timing.get("stages", {}).get(stage)
        return None if sections is None else float(sum(sections.values()) if isinstance(sections, Mapping) else sections)


def read_json(path: Path, default: Any) -> Any:
    """The file's content, or ``default`` where there is no file; raises QI2Error that names an unreadable one."""
    if not path.exists():
        return default
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise QI2Error(f"{path} is not JSON ({error}); run the stage that writes it again") from error
