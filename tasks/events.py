"""What a stage reports, as a file of events: training never waits for a tracker, and no stage imports one (seconds).

`tasks.tracking.Forwarder` passes them on: in the flow's process while the stage runs, or at the end of a stage run by hand.
"""

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

    def open(self, name: str, tags: Mapping[str, str], params: Mapping[str, Any]) -> None:
        """First event: what the run is called, its tags and flat parameters."""
        self._append("open", name=name, tags=dict(tags), params=dict(params))

    def close(self, status: str, values: Mapping[str, float]) -> None:
        """Last event: FINISHED or FAILED, and the stage's final metrics."""
        self._append("close", status=status, values=dict(values))

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

    def _append(self, kind: str, **values: Any) -> None:
        jsonl.append(self.folder / FILE, kind=kind, **values)
