"""Where a stage's figures, pictures and files go; the library does not know which tracker stands behind it."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image


class Reporter(Protocol):
    """A sink for what a stage has to say. Metric and image keys are ``prefix/name``; ``step`` is the optimiser step."""

    def metrics(self, values: Mapping[str, float], step: int) -> None: ...

    def image(self, key: str, image: "Image", step: int) -> None: ...

    def text(self, name: str, text: str) -> None: ...

    def file(self, path: Path) -> None: ...


class NullReporter:
    """Says nothing."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        return None

    def image(self, key: str, image: "Image", step: int) -> None:
        return None

    def text(self, name: str, text: str) -> None:
        return None

    def file(self, path: Path) -> None:
        return None


class FileReporter(NullReporter):
    """Writes ``curves.csv`` (step, name, value) and ``images/KEY@STEP.png`` into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        path = self.folder / "curves.csv"
        new = not path.exists()
        with open(path, "a", newline="") as handle:
            writer = csv.writer(handle)
            if new:
                writer.writerow(["step", "name", "value"])
            writer.writerows([step, name, float(value)] for name, value in values.items())

    def image(self, key: str, image: "Image", step: int) -> None:
        path = self.folder / "images" / f"{key.replace('/', '_')}@{step}.png"
        path.parent.mkdir(exist_ok=True)
        image.save(path)

    def text(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)


class Reporters:
    """Passes everything on to several reporters."""

    def __init__(self, *reporters: Reporter) -> None:
        self.reporters = reporters

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        for reporter in self.reporters:
            reporter.metrics(values, step)

    def image(self, key: str, image: "Image", step: int) -> None:
        for reporter in self.reporters:
            reporter.image(key, image, step)

    def text(self, name: str, text: str) -> None:
        for reporter in self.reporters:
            reporter.text(name, text)

    def file(self, path: Path) -> None:
        for reporter in self.reporters:
            reporter.file(path)
