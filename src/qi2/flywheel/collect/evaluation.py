"""Failures of a run's evaluation and of suites. All are held out: they may be diagnosed, and never enter training."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.publish import MANIFEST, file_sha256, verify
from qi2.core.rng import key
from qi2.evaluation.models import CHAIN, STUDENT
from qi2.evaluation.run_folder import RunFolder, read_json
from qi2.evaluation.store import Store
from qi2.evaluation.suites.suite import Suite
from qi2.evaluation.suites.world import EditItem, T2IItem, remade
from qi2.flywheel.signals import Signal
from qi2.flywheel.store import SignalStore

RESULTS = "results.json"
HALF = 0.5  # of a suite's score: below, a picture counts as failed
SMALL = ("all",)  # of a verdict: what follows from the rest


@dataclass(frozen=True)
class Evaluated:
    """A finished evaluation: its folder, what it found, and what its signals say of where they are from."""

    folder: Path
    results: Mapping[str, Any]
    sha256: str

    @staticmethod
    def open(folder: Path) -> "Evaluated":
        """``runs/SCALE``, its ``evaluate``, or a bundle with one. Raises QI2Error where there is none, or it was changed since."""
        found = next((path for path in (Path(folder), Path(folder) / "evaluate") if (path / RESULTS).is_file()), None)
        if found is None:
            raise QI2Error(f"{folder} holds no finished evaluation; run stage evaluate, or name the folder that has {RESULTS}")
        if (found / MANIFEST).is_file():
            verify(found)
        results = read_json(found / RESULTS, {})
        if not isinstance(results, dict) or not {"suite", "models", "t2i", "edit"} <= results.keys():
            raise QI2Error(f"{found / RESULTS} is not of stage evaluate; results of suites are read by suite_failures")
        return Evaluated(found, results, file_sha256(found / RESULTS))

    @property
    def models(self) -> list[str]:
        """The chain's newest model and its student: the ones whose failures still matter."""
        trained = [name for name in CHAIN if name in self.results["t2i"]["results"] and name != STUDENT]
        return trained[-1:] + [STUDENT] * (STUDENT in self.results["t2i"]["results"])

    def provenance(self, model: str, suite: str, item: str) -> dict[str, Any]:
        """Where a signal is from; the weights' hash is the manifest's of the run beside the evaluation."""
        facts = self.results["models"].get(model, {})
        weights = RunFolder(self.folder.parent).hashes(facts.get("folder", model)).get("model.safetensors", "")
        sampler = {name: facts[name] for name in ("steps", "shift", "guidance", "edit_guidance") if name in facts}
        where = {"file": f"{self.folder.parent.name}/{self.folder.name}/{RESULTS}", "sha256": self.sha256, "suite": suite, "item": item}
        return where | {"weights": weights, "sampler": sampler}

    def sample(self, model: str, suite: str, index: int) -> Path | None:
        """The picture that the evaluation kept, of its first items."""
        path = self.folder / "samples" / model / f"{suite}-{index}.png"
        return path if path.is_file() else None


def failures(folder: Path, store: SignalStore, models: Sequence[str] = ()) -> list[Signal]:
    """One signal per model and item that was not all right; pictures where the evaluation kept them. Nothing is added to the store but pictures.

    ``models``: the newest of the chain and its student by default. Raises QI2Error where a model was not evaluated, or the prompts cannot be remade.
    """
    evaluated = Evaluated.open(folder)
    chosen = list(models) or evaluated.models
    if unknown := [name for name in chosen if name not in evaluated.results["t2i"]["results"]]:
        raise QI2Error(f"{evaluated.folder} did not evaluate {unknown[0]}; it has {', '.join(evaluated.results['t2i']['results'])}")
    if any("clip" in row for rows in evaluated.results["t2i"]["results"].values() for row in rows):
        return [signal for model in chosen for signal in _user(evaluated, store, model)]
    t2i, edits = remade(evaluated.results["suite"], str(evaluated.folder / RESULTS))
    return [signal for model in chosen for signal in (*_world(evaluated, store, model, t2i), *_edits(evaluated, store, model, edits))]


def _world(evaluated: Evaluated, store: SignalStore, model: str, items: Sequence[T2IItem]) -> Iterator[Signal]:
    for index, (item, verdict) in enumerate(zip(items, evaluated.results["t2i"]["results"][model], strict=True)):
        if not verdict["all"]:
            attributes = {name: value for name, value in verdict.items() if name not in SMALL}
            yield _signal(
                evaluated, store, model, "t2i", index, item.id, item.kind, item.prompt, {"attributes": attributes}, item.scene.to_json(), item.noise_seed
            )


def _edits(evaluated: Evaluated, store: SignalStore, model: str, items: Sequence[EditItem]) -> Iterator[Signal]:
    size = int(evaluated.results["suite"]["size"])
    for index, (item, verdict) in enumerate(zip(items, evaluated.results["edit"]["results"].get(model, []), strict=False)):
        if not verdict["all"]:
            references = tuple(store.keep(image) for image in item.references(size))
            said = {"attributes": {"done": verdict["done"]}, "kept_mae": verdict["kept_mae"]}
            yield _signal(
                evaluated, store, model, "edit", index, item.id, f"edit/{item.kind}", item.prompt, said, item.edit.to_json(), item.noise_seed, references
            )


def _user(evaluated: Evaluated, store: SignalStore, model: str) -> Iterator[Signal]:
    """Of a user's own captions, on which no truth is known: pictures no nearer to their caption than images are to another's."""
    chance, seed = float(evaluated.results["figures"]["t2i/clip_mismatched"]["value"]), int(evaluated.results["suite"]["seed"])
    for index, (item, verdict) in enumerate(zip(evaluated.results["t2i"]["items"], evaluated.results["t2i"]["results"][model], strict=True)):
        if verdict["clip"] <= chance:
            said, noise = {"clip": verdict["clip"], "chance": chance}, key(seed, f"evaluate/user/{item['id']}")
            yield _signal(evaluated, store, model, "t2i", index, item["id"], item["kind"], item["prompt"], said, "", noise)


def _signal(
    evaluated: Evaluated, store: SignalStore, model: str, suite: str, index: int, item: str, kind: str, prompt: str, verdict: Mapping[str, Any], truth: str,
    seed: int, references: tuple[str, ...] = (),
) -> Signal:  # fmt: skip
    path = evaluated.sample(model, suite, index)
    picture = store.keep(Image.open(path)) if path else ""
    task, where = "ti2i" if suite == "edit" else "t2i", evaluated.provenance(model, suite, item)
    return Signal("evaluation", task, kind, prompt, model, verdict, truth, picture, references, seed, where, heldout=True)


def suite_failures(results: Path, store: SignalStore, pictures: Store, suites: Mapping[str, Suite] | None = None, below: float = HALF) -> list[Signal]:
    """Pictures of `qi2 evaluate --suite` that scored less than ``below``; ``pictures``: the store that they were drawn into.

    Every number of a picture is kept as its verdict; the judges' scales differ, so that a suite of 0 to 10 needs another ``below``. An edit's references are
    read from its suite, by name in ``suites``. Raises QI2Error where one is missing or has changed since.
    """
    path = Path(results) / RESULTS if Path(results).is_dir() else Path(results)
    found = read_json(path, None)
    if not isinstance(found, dict) or not isinstance(found.get("results"), list):
        raise QI2Error(f"{path} holds no results of suites; name what `qi2 evaluate --suite` wrote")
    where = {"file": path.name, "sha256": file_sha256(path)}
    return [signal for result in found["results"] for signal in _suite(result, where, store, pictures, suites or {}, below)]


def _suite(
    result: Mapping[str, Any], where: Mapping[str, Any], store: SignalStore, pictures: Store, suites: Mapping[str, Suite], below: float
) -> Iterator[Signal]:  # fmt: skip
    facts = result["suite"]
    edits, references = facts["task"] == "edit", dict[str, tuple[str, ...]]()
    if edits:
        suite = suites.get(facts["name"])
        if suite is None or suite.hash != facts["hash"]:
            raise QI2Error(f"suite {facts['name']} is of edits, and its file {'has changed since' if suite else 'is needed'}: give it in suites")
        sizes = {item["id"]: pictures.read(item["pictures"][0]).width for item in result["items"]}  # drawn references are kept as the model saw them
        references = {row.id: tuple(store.keep(one.open(sizes[row.id])) for one in row.references) for row in suite.rows}
    weights = {name: value for name, value in result["setting"].items() if name not in ("prompt", "references", "noise")}
    for item in result["items"]:
        for number, (picture, numbers) in enumerate(zip(item["pictures"], item["numbers"], strict=False)):
            if numbers.get("score", 1.0) < below:
                kind, task = (f"edit/{item['category']}", "ti2i") if edits else (item["category"], "t2i")
                origin = {**where, "suite": facts["name"], "hash": facts["hash"], "item": item["id"], "picture": number, "setting": weights}
                kept = store.keep(pictures.read(picture))
                verdict = {"numbers": numbers, "label": result["label"]}
                yield Signal(
                    "evaluation", task, kind, item["prompt"], result["model"], verdict, "", kept, references.get(item["id"], ()), 0, origin, heldout=True
                )  # fmt: skip
