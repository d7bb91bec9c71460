"""MLflow's model registry: versions, aliases, and their files as local folders."""

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

BUNDLE = "bundle"


class Registry:
    """One registered model, e.g. ``qi2-tiny``."""

    def __init__(self, tracker: "MlflowClient", name: str) -> None:
        self.tracker, self.name = tracker, name
        if not tracker.search_registered_models(f"name = '{name}'"):
            tracker.create_registered_model(name, description="Text-to-image and instruction editing, trained by the qi2 line")

    def versions(self) -> list[Any]:
        """All versions, oldest first."""
        return sorted(self.tracker.search_model_versions(f"name = '{self.name}'"), key=lambda version: int(version.version))

    def alias(self, alias: str) -> Any:
        """The version that an alias names, or None."""
        number = self.tracker.get_registered_model(self.name).aliases.get(alias)
        return None if number is None else self.tracker.get_model_version(self.name, number)

    def version(self, number: str) -> Any:
        """One version by its number."""
        return self.tracker.get_model_version(self.name, str(number))

    def with_tag(self, key: str, value: str) -> Any:
        """The newest version with a tag, or None."""
        return next((version for version in reversed(self.versions()) if version.tags.get(key) == value), None)

    def next_version(self) -> str:
        """The number that the next registration gets, if no other comes first."""
        versions = self.versions()
        return str(int(versions[-1].version) + 1) if versions else "1"

    def register(self, bundle: Path, run_id: str, card: str, tags: Mapping[str, str]) -> str:
        """Log ``bundle`` into the run and register it with ``card`` as its description; returns the version."""
        self.tracker.log_artifacts(run_id, str(bundle), BUNDLE)
        source = f"{self.tracker.get_run(run_id).info.artifact_uri}/{BUNDLE}"
        version = self.tracker.create_model_version(self.name, source, run_id, tags=dict(tags), description=card)
        return str(version.version)

    def tag(self, number: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            self.tracker.set_model_version_tag(self.name, number, key, value)

    def set_alias(self, alias: str, number: str) -> None:
        """Let ``alias`` name a version from now on."""
        self.tracker.set_registered_model_alias(self.name, alias, number)

    def drop_alias(self, alias: str, number: str) -> None:
        """Take ``alias`` away from a version that has it."""
        if self.tracker.get_registered_model(self.name).aliases.get(alias) == str(number):
            self.tracker.delete_registered_model_alias(self.name, alias)

    def folder(self, number: str) -> Path:
        """The version's files as a local folder, fetched once."""
        target = settings.STATE / "registry" / self.name / str(number)
        if not target.exists():
            import mlflow

            mlflow.set_tracking_uri(self.tracker.tracking_uri)
            staging = target.with_name(f".{number}")
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
            source = self.tracker.get_model_version_download_uri(self.name, number)
            found = mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(staging))
            Path(found).rename(target)
            shutil.rmtree(staging, ignore_errors=True)
        return target


def pack(bundle: Path, runs: Path, names: Iterable[str]) -> None:
    """A folder with the layout of ``runs/SCALE``, so that the same code loads both; links, so that nothing is copied twice.

    A stage that this run does not have (an enhancer, in a run from before there was one) is left out.
    """
    shutil.rmtree(bundle, ignore_errors=True)
    for name in (name for name in names if (runs / name).exists()):
        shutil.copytree(runs / name, bundle / name, copy_function=_link)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
