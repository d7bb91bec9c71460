"""``python -m tasks nightly``: the registry's champion and challenger on tonight's subset of held-out prompts, within a time budget, against earlier nights.

What is kept: figures and counts in MLflow (experiment ``qi2-nightly-SCALE``), the last sitting of every subset with its pictures under
``.qi2/nightly/SCALE/``, and the page of the night there as index.html.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from qi2.core.errors import QI2Error
from qi2.core.progress import Progress
from qi2.core.publish import write_file
from qi2.core.reporter import NullReporter
from qi2.evaluation import night
from qi2.evaluation.nightly_page import Failure, NightFacts, render
from qi2.evaluation.store import default_folder, limit_bytes, opened
from qi2.evaluation.summary import revision
from tasks import config, registry, settings, tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient

ALIASES = ("champion", "challenger")
DAY_S = 86_400
SHOWN = 12  # new failures on the page


@dataclass(frozen=True)
class Entry:
    """A registered model: its version and the folder that holds it."""

    version: str
    folder: Path

    @property
    def stage(self) -> str:
        """The last stage that it has been through."""
        return next(name for name in ("distill", "rlhf", "sft") if (self.folder / name).exists())


def home(scale: str) -> Path:
    """Where the nights of a scale keep what they need."""
    return settings.STATE / "nightly" / scale


def result_file(scale: str) -> Path:
    """What the last evaluation of a scale wrote: models, rows, verdict, alert, page, mlflow_run, experiment."""
    return home(scale) / "result.json"


def main(scale: str) -> None:
    """Evaluate, compare, log, and write the page and the result."""
    tracker = tracking.client()
    models = registered(tracker, scale)
    result: dict[str, Any] = {"models": {alias: entry.version for alias, entry in models.items()}}
    if models:
        result |= Night(scale, tracker, models, int(time.time() // DAY_S)).evaluate()
    result_file(scale).parent.mkdir(parents=True, exist_ok=True)
    write_file(result_file(scale), json.dumps(result, indent=1).encode())


def registered(tracker: "MlflowClient", scale: str) -> dict[str, Entry]:
    """The models in the registry, by alias."""
    store = registry.Registry(tracker, f"qi2-{scale}")
    found = {alias: store.alias(alias) for alias in ALIASES}
    return {alias: Entry(str(version.version), store.folder(version.version)) for alias, version in found.items() if version is not None}


def settings_of(scale: str) -> night.NightlyConfig:
    """The defaults with section ``nightly`` of the scale's configuration over them. Raises QI2Error for an unknown key."""
    given = yaml.safe_load((settings.ROOT / "conf" / "nightly.yaml").read_text()).get(scale) or {}
    if unknown := set(given) - set(night.NightlyConfig.__dataclass_fields__):
        raise QI2Error(f"conf/nightly.yaml: unknown key {sorted(unknown)[0]!r} of {scale}; known are {', '.join(night.NightlyConfig.__dataclass_fields__)}")
    return night.NightlyConfig(**given)


class Night:
    """One night; ``day``: days since 1970, which decides the subset."""

    def __init__(self, scale: str, tracker: "MlflowClient", models: Mapping[str, Entry], day: int) -> None:
        self.scale, self.tracker, self.models, self.config = scale, tracker, models, settings_of(scale)
        self.day, self.subset = day, day % self.config.rotation
        self.experiment = f"qi2-nightly-{scale}"
        self.number = tracking.experiment_id(tracker, self.experiment)
        self.folder = home(scale) / f"subset-{self.subset}"
        self.before: dict[str, night.Sitting] = {}
        self.now: dict[str, night.Sitting] = {}

    def evaluate(self) -> dict[str, Any]:
        """Everything of one night; returns rows, verdict, alert, page, mlflow_run and experiment."""
        past = self._nights()
        history = {alias: self._history(alias, entry.version) for alias, entry in self.models.items()}
        count = night.affordable(
            self.config, [(run.data.metrics["night/prompts_per_kind"], run.data.metrics["night/seconds"]) for run in past], len(self.models)
        )
        count = night.steady(self._last(), count)
        drawn = self._pictures()
        parent = self._start(time.strftime("night of %Y-%m-%d", time.gmtime()), "nightly")
        slowest = 0.0
        with Progress("nightly", len(self.models), "model") as progress:
            for alias, entry in self.models.items():
                started = time.monotonic()
                figures = self._sit(alias, entry, count)
                slowest = max(slowest, night.cost(time.monotonic() - started, _results(self.folder / alias)))
                self._log(alias, entry, figures, parent)
                progress.update()
        changes = night.compare(self.now, self.before, {alias: counts for alias, (counts, _) in history.items()}, max(n for _, n in history.values()))
        said = night.verdict(changes, bool(self.before) or any(counts for counts, _ in history.values()))
        own = {f"{alias}/{label}": right / n for alias, sat in self.now.items() for label, (right, n) in night.shares(sat).items()}
        tracking.log_metrics(self.tracker, parent, own | {"night/prompts_per_kind": count, "night/seconds": slowest, "night/subset": self.subset})
        drew = f"{self._pictures() - drawn} pictures were drawn, all others had been before"
        page = self._page(f"{said} {drew}.", changes, past, own, tracking.run_link(parent, self.number))
        self.tracker.log_artifact(parent, str(page))
        self.tracker.set_terminated(parent, "FINISHED")
        with opened(store_folder()) as store:
            store.prune(limit_bytes())
        rows = [{**asdict(change), "beyond_chance": change.beyond_chance} for change in changes]
        alert = any(change.worse for change in changes)
        return {"rows": rows, "verdict": said, "alert": alert, "page": str(page), "mlflow_run": parent, "experiment": self.number}

    def _last(self) -> int | None:
        """Prompts per kind of this subset's last sitting."""
        counts = [_results(path.parent)["suite"]["prompts_per_kind"] for path in self.folder.glob("*/version.json")]
        return max(counts, default=None)

    def _pictures(self) -> int:
        with opened(store_folder()) as store:
            return sum(pictures for _, pictures, _ in store.models())

    def _start(self, name: str, stage: str, parent: str | None = None, **tags: str) -> str:
        facts = {
            "kind": "nightly",
            "stage": stage,
            "scale": self.scale,
            "git.revision": revision(settings.ROOT),
            "subset": str(self.subset),
            "day": str(self.day),
            **tags,
        }
        return tracking.start_run(self.tracker, self.experiment, name, facts | {"prefect.flow_run_id": os.environ.get("QI2_FLOW_RUN", "none")}, parent)

    def _nights(self) -> list[Any]:
        """The finished nights before, newest first."""
        query = "tags.kind = 'nightly' and tags.stage = 'nightly' and attributes.status = 'FINISHED'"
        runs = self.tracker.search_runs([self.number], query, order_by=["attributes.start_time DESC"], max_results=self.config.history)
        return [run for run in runs if "night/seconds" in run.data.metrics]

    def _history(self, alias: str, version: str) -> tuple[dict[str, tuple[int, int]], int]:
        """(right, prompts) of this version in its earlier nights on other subsets, summed, and how many nights they were."""
        query = f"tags.stage = '{alias}' and tags.version = '{version}' and tags.subset != '{self.subset}' and attributes.status = 'FINISHED'"
        runs = self.tracker.search_runs([self.number], query, order_by=["attributes.start_time DESC"], max_results=self.config.history)
        nights = list({run.data.tags["day"]: run for run in reversed(runs)}.values())  # of one that was tried again, its last try
        summed: dict[str, tuple[int, int]] = {}
        for run in nights:
            for name, n in run.data.metrics.items():
                if name.startswith("n/"):
                    label = name.removeprefix("n/")
                    right, so_far = summed.get(label, (0, 0))
                    summed[label] = (right + int(run.data.metrics[f"right/{label}"]), so_far + int(n))
        return summed, len(nights)

    def _sit(self, alias: str, entry: Entry, count: int) -> dict[str, float]:
        """Evaluate one model, and keep what it did on this subset the last time beside it."""
        from qi2.evaluation.evaluate import evaluate_models

        out, former = self.folder / alias, self.folder / f"{alias}.before"
        if _day(out) not in (None, self.day):  # a night that is tried again keeps what was before it
            shutil.rmtree(former, ignore_errors=True)
            out.rename(former)
        facts = yaml.safe_load((entry.folder / "recipe.yaml").read_text())
        facts["evaluate"] = self._suites(count)
        recipe = config.recipe_of(facts)
        raw, curated = (settings.ROOT / settings.runs_folder(self.scale) / name for name in ("raw", "curated"))
        folders = {"raw": raw if raw.exists() else None, "curated": curated}
        figures = evaluate_models(
            recipe,
            {entry.stage: entry.folder / entry.stage},
            entry.folder / "vae",
            entry.folder / "standins",
            out,
            NullReporter(),
            **folders,
            store=store_folder(),
        )
        (out / "version.json").write_text(json.dumps({"version": entry.version, "stage": entry.stage, "day": self.day}))
        self.now[alias] = _read(out)
        if (former / "version.json").exists():
            self.before[alias] = _read(former)
        return {name: figure.value for name, figure in figures.items()}

    def _suites(self, count: int) -> dict[str, Any]:
        """Section ``evaluate`` of the scale's configuration now, for tonight's subset."""
        given = yaml.safe_load((settings.ROOT / "conf" / "scale" / f"{self.scale}.yaml").read_text()).get("evaluate") or {}
        seed = night.subset_seed(given.get("seed", 2026), self.subset)
        edits = max(1, round(count * self.config.edits_per_prompt))
        return {**given, "seed": seed, "prompts_per_kind": count, "edits_per_kind": edits, "shown": self.config.pictures, "tracked": 0}

    def _log(self, alias: str, entry: Entry, figures: Mapping[str, float], parent: str) -> None:
        child = self._start(f"{alias} v{entry.version}", alias, parent, version=entry.version)
        counts = night.shares(self.now[alias])
        values = {f"right/{label}": float(right) for label, (right, _) in counts.items()} | {f"n/{label}": float(n) for label, (_, n) in counts.items()}
        tracking.log_metrics(self.tracker, child, {**figures, **values})
        self.tracker.set_terminated(child, "FINISHED")

    def _page(self, said: str, changes: Any, past: list[Any], own: Mapping[str, float], link: str) -> Path:
        overall = {
            name: (value, len(self.now[alias].verdicts[suite])) for name, value in own.items() for alias, _, suite in [name.partition("/")] if "/" not in suite
        }
        title, n = f"Night of {time.strftime('%Y-%m-%d', time.gmtime())}, {self.scale}", self.config.rotation
        versions = ", ".join(f"{alias} version {entry.version}" for alias, entry in self.models.items())
        subtitle = f"{versions}; subset {self.subset + 1} of {n}, revision {revision(settings.ROOT)}."
        facts = NightFacts(title, subtitle, said, overall, changes, _trends(past, own), list(self._failures())[:SHOWN], link)
        path = home(self.scale) / "index.html"
        write_file(path, render(facts).encode())
        return path

    def _failures(self) -> Iterator[Failure]:
        """What was right on these prompts before and is wrong now, as far as both pictures are kept."""
        for alias, before in self.before.items():
            results = _results(self.folder / alias)
            for suite, name in night.new_failures(before, self.now[alias]):
                place = next(i for i, item in enumerate(results[suite]["items"]) if item["id"] == name)
                pair = [_picture(self.folder / folder, suite, place) for folder in (f"{alias}.before", alias)]
                if all(path is not None and path.exists() for path in pair):
                    yield Failure(alias, results[suite]["items"][place]["prompt"], *pair)  # type: ignore[arg-type]


def store_folder() -> Path:
    """The pictures that were drawn before: those of suites and of the stage `evaluate`."""
    return settings.ROOT / default_folder()


def _results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())  # type: ignore[no-any-return]


def _read(folder: Path) -> night.Sitting:
    known = json.loads((folder / "version.json").read_text())
    return night.sitting(_results(folder), known["stage"], known["version"])


def _day(folder: Path) -> int | None:
    """The night of a finished sitting; None where there is none."""
    path = folder / "version.json"
    return int(json.loads(path.read_text())["day"]) if path.exists() else None


def _picture(folder: Path, suite: str, place: int) -> Path | None:
    stage = json.loads((folder / "version.json").read_text())["stage"]
    return folder / "samples" / stage / f"{suite}-{place}.png"


def _trends(past: list[Any], own: Mapping[str, float]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Every share of tonight over the nights (in days from the first), by label and model."""
    nights = [(run.info.start_time / 1000 / DAY_S, run.data.metrics) for run in reversed(past)] + [(time.time() / DAY_S, own)]
    trends: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name in own:
        alias, _, label = name.partition("/")
        trends.setdefault(label, {})[alias] = [(day - nights[0][0], values[name]) for day, values in nights if name in values]
    return trends if past else {}
