"""Who takes part: every model of a finished evaluation, and folders of images that other systems made for the same prompts.

Pictures meet where their prompt and source images are the same, whatever folder they come from. A source is
- a finished evaluation (``results.json`` beside ``samples/MODEL/SUITE-K.png``), or a run or registered bundle that has one under ``evaluate/``;
- a folder with ``prompts.jsonl``, one picture a line: {"image": "a.png", "prompt": "...", "category": "portrait", "sources": ["in.png"]};
- a folder of images named like an evaluation's samples (``t2i-0.png``, ``edit-3.png``), beside an evaluation that says what their prompts are.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.publish import MANIFEST, file_sha256, verify

T2I, EDIT = "t2i", "edit"
SUITES = (T2I, EDIT)
TABLE, RESULTS = "prompts.jsonl", "results.json"
FORMATS = ("PNG", "JPEG", "WEBP")
MAX_BYTES, MAX_SIDE = 64 << 20, 8192


@dataclass(frozen=True)
class Picture:
    """One image file; ``sha256`` is of its bytes, so that a vote is on what was seen and not on a name."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Task:
    """A prompt, and for an edit the pictures that it changes."""

    suite: str
    category: str
    prompt: str
    sources: tuple[Picture, ...] = ()

    @property
    def id(self) -> str:
        """16 hex digits of what is asked: the prompt and the sources' bytes."""
        asked = json.dumps([self.suite, self.prompt, [source.sha256 for source in self.sources]])
        return hashlib.sha256(asked.encode()).hexdigest()[:16]


@dataclass
class Entrant:
    """A system under a name, and its picture for every task (by the task's id) that it has one for."""

    name: str
    pictures: dict[str, Picture] = field(default_factory=dict)

    def content(self) -> dict[str, str]:
        """{task's id: sha256}."""
        return {key: picture.sha256 for key, picture in self.pictures.items()}


@dataclass
class Field:
    """All tasks by id and all entrants by name. ``dropped`` says which entrants were left out and why."""

    tasks: dict[str, Task] = field(default_factory=dict)
    entrants: dict[str, Entrant] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)

    def add(self, entrant: Entrant, tasks: Mapping[str, Task]) -> None:
        """Take an entrant in; one that shows the very pictures of an earlier one is the same system and is left out."""
        twin = next((other.name for other in self.entrants.values() if other.content() == entrant.content()), None)
        if twin:
            self.dropped.append(f"{entrant.name} shows the same pictures as {twin}")
            return
        if entrant.name in self.entrants:
            raise QI2Error(f"two entrants are called {entrant.name}; give one of the sources a name of its own: NAME=FOLDER")
        self.entrants[entrant.name] = entrant
        for key, task in tasks.items():
            self.tasks.setdefault(key, task)


def load(sources: Sequence[str], only: Sequence[str] = ()) -> Field:
    """Read sources, each ``FOLDER`` or ``NAME=FOLDER``; ``only`` keeps the entrants of these names.

    Raises QI2Error that names the folder, row or picture that cannot be used, or where fewer than two entrants have a task in common.
    """
    found = Field()
    named_like: dict[str, Task] = {}
    for text in sorted(sources, key=lambda text: evaluation_of(folder_of(text)) is None):  # evaluations first: they say what a bare folder's pictures are of
        folder, name = folder_of(text), text.partition("=")[0] if "=" in text else ""
        evaluation = evaluation_of(folder)
        if evaluation:
            named_like = named_like or numbered(evaluation)
            for entrant, tasks in _models(evaluation, name):
                _take(found, entrant, tasks, only)
        else:
            _take(found, *_system(folder, name or folder.name, named_like), only)
    missing = set(only) - found.entrants.keys()
    if missing:
        raise QI2Error(f"no entrant is called {', '.join(sorted(missing))}; there are {', '.join(sorted(found.entrants)) or 'none'}")
    shared = [key for key in found.tasks if sum(key in entrant.pictures for entrant in found.entrants.values()) > 1]
    if not shared:
        raise QI2Error(f"of {len(found.entrants)} entrants no two have a picture of the same prompt (and sources); give evaluations of one suite")
    return found


def _take(found: Field, entrant: Entrant, tasks: Mapping[str, Task], only: Sequence[str]) -> None:
    if not only or entrant.name in only:
        found.add(entrant, tasks)


def folder_of(text: str) -> Path:
    """The folder of a source ``FOLDER`` or ``NAME=FOLDER``."""
    folder = Path(text.partition("=")[2] if "=" in text else text)
    if not folder.is_dir():
        raise QI2Error(f"{folder} is no folder; give a finished evaluation (runs/SCALE/evaluate), or a folder of images with {TABLE}")
    return folder


def evaluation_of(folder: Path) -> Path | None:
    """The finished evaluation that a folder is or holds."""
    return next((path for path in (folder, folder / "evaluate") if (path / RESULTS).is_file()), None)


def numbered(folder: Path) -> dict[str, Task]:
    """{"t2i-0": its task} of an evaluation's kept samples."""
    results, tasks = _results(folder), dict[str, Task]()
    for suite in SUITES:
        for k, item in enumerate(results[suite]["items"][: results["shown"]]):
            sources = [folder / "samples" / "source" / f"{suite}-{k}-{j}.png" for j in range(item.get("references", 0))]
            tasks[f"{suite}-{k}"] = Task(suite, item["kind"], item["prompt"], tuple(map(_picture, sources)))
    return tasks


def _results(folder: Path) -> Any:
    """What the evaluation wrote, as far as it is needed here."""
    try:
        results = json.loads((folder / RESULTS).read_text())
        if {"shown", "models", *SUITES} <= results.keys() and all(Path(name).name == name for name in results["models"]):
            return results
    except (ValueError, TypeError, AttributeError) as error:
        raise QI2Error(f"{folder / RESULTS} is damaged ({error}); run stage evaluate again") from error
    raise QI2Error(f"{folder / RESULTS} is not an evaluation's; give the folder of stage evaluate, or images with {TABLE}")


def _models(folder: Path, name: str) -> Iterator[tuple[Entrant, dict[str, Task]]]:
    verify(folder if (folder / MANIFEST).is_file() else folder.parent)  # an evaluation within a bundle stands in the bundle's manifest
    tasks = numbered(folder)
    for model in _results(folder)["models"]:
        yield _from_names(folder / "samples" / model, f"{name}/{model}" if name else model, tasks)


def _system(folder: Path, name: str, named_like: Mapping[str, Task]) -> tuple[Entrant, dict[str, Task]]:
    if (folder / TABLE).is_file():
        return _from_table(folder, name)
    if not named_like:
        raise QI2Error(f"{folder} has neither {RESULTS} nor {TABLE}; add a table of prompts, or give an evaluation whose samples its pictures are named like")
    entrant, tasks = _from_names(folder, name, named_like)
    if not tasks:
        raise QI2Error(f"{folder} has no picture that is named like the evaluation's samples ({', '.join(list(named_like)[:2])}, ...)")
    return entrant, tasks


def _from_names(folder: Path, name: str, numbered: Mapping[str, Task]) -> tuple[Entrant, dict[str, Task]]:
    entrant, tasks = Entrant(name), {}
    for stem, task in numbered.items():
        path = next((path for end in (".png", ".jpg", ".jpeg", ".webp") if (path := folder / f"{stem}{end}").is_file()), None)
        if path:
            entrant.pictures[task.id], tasks[task.id] = _picture(path), task
    return entrant, tasks


def _from_table(folder: Path, name: str) -> tuple[Entrant, dict[str, Task]]:
    entrant, tasks = Entrant(name), {}
    for number, line in enumerate((folder / TABLE).read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            task, picture = _row(folder, line, f"{folder / TABLE} line {number}")
            entrant.pictures[task.id], tasks[task.id] = picture, task
    return entrant, tasks


def _row(folder: Path, line: str, where: str) -> tuple[Task, Picture]:
    try:
        row = json.loads(line)
        prompt, image, sources = row["prompt"], row["image"], row.get("sources", [])
        suite = EDIT if sources else T2I
        if not isinstance(sources, list) or not all(isinstance(value, str) for value in (prompt, image, row.get("category", ""), *sources)):
            raise TypeError("sources is a list of names, everything else a text")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise QI2Error(f'{where}: {error!r}; write {{"image": "a.png", "prompt": "...", "category": "portrait", "sources": ["in.png"]}}') from error
    return Task(suite, row.get("category", "other"), prompt, tuple(_inside(folder, name, where) for name in sources)), _inside(folder, image, where)


def _inside(folder: Path, name: str, where: str) -> Picture:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise QI2Error(f"{where}: {name} lies outside {folder}; keep the pictures in the folder")
    return _picture(path)


def _picture(path: Path) -> Picture:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES >> 20} MiB")
        with Image.open(path, formats=FORMATS) as image:
            if max(image.size) > MAX_SIDE:
                raise ValueError(f"a side of more than {MAX_SIDE} pixels")
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise QI2Error(f"the picture {path} cannot be used: {error}; repair or remove it") from error
    return Picture(path, file_sha256(path))
