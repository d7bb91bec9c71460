"""What a stage reports, as a file of events: training never waits for a tracker, and no stage imports one (seconds).

`tasks.tracking.Forwarder` passes them on: in the flow's process while the stage runs, or at the end of a stage run by hand.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import jsonl

if TYPE_CHECKING:
    from PIL.Image import Image

FILE = "events.jsonl"


class EventReporter:
    """A Reporter that appends one JSON line per event to ``folder/events.jsonl``; pictures and files are kept beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "files").mkdir(parents=True)
        self._count = 0
        self._said: list[dict[str, Any]] = []

    def open(self, name: str, tags: Mapping[str, str], params: Mapping[str, Any]) -> None:
        """First event: what the run is called, its tags and flat parameters."""
        jsonl.append(self.folder / FILE, kind="open", name=name, tags=dict(tags), params=dict(params))

    def close(self, status: str, values: Mapping[str, float]) -> None:
        """Last event: FINISHED or FAILED, and the stage's final metrics."""
        jsonl.append(self.folder / FILE, kind="close", status=status, values=dict(values))

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self._append("metrics", values={name: float(value) for name, value in values.items()}, step=int(step))

    def image(self, key: str, image: "Image", step: int) -> None:
        path = self._path(".png")
        image.save(path)
        self._append("image", key=key, step=int(step), path=str(path))

    def text(self, name: str, text: str) -> None:
        self._append("text", name=name, text=text)

    def file(self, path: Path) -> None:
        kept = self._path("") / Path(path).name
        kept.parent.mkdir()
        shutil.copyfile(path, kept)
        self._append("file", path=str(kept))

    def _path(self, ending: str) -> Path:
        self._count += 1
        return self.folder / "files" / f"{self._count:05d}{ending}"

    def state(self) -> dict[str, bytes]:
        """Every event since the first, and the pictures and files that they name."""
        said = [{**event, "path": Path(event["path"]).relative_to(self.folder).as_posix()} if "path" in event else event for event in self._said]
        files = {event["path"]: (self.folder / event["path"]).read_bytes() for event in said if "path" in event}
        return {"events.json": json.dumps(said).encode(), **files}

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Say again what a killed try had said, with its times. What this try has said so far is the beginning of it: a follower may have read that."""
        before = json.loads(state.get("events.json", b"[]"))
        for name, data in state.items():
            if name != "events.json":
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / name).write_bytes(data)
        for event in before[len(self._said) :]:
            place = {"path": str(self.folder / event["path"])} if "path" in event else {}
            self._said.append(jsonl.append(self.folder / FILE, **event | place))
        self._count = len([event for event in self._said if "path" in event])

    def _append(self, kind: str, **values: Any) -> None:
        self._said.append(jsonl.append(self.folder / FILE, kind=kind, **values))
