"""Where a stage's figures, pictures and files go; the library does not know which tracker stands behind it."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image


VOLATILE = "speed/"  # prefix of the figures that no two runs share


class Reporter(Protocol):
    """A sink for what a stage has to say. Metric and image keys are ``prefix/name``; ``step`` is the optimiser step.

    A checkpoint keeps ``state()``, all that was said until then as {relative path: bytes}; ``restore`` makes it what this reporter has said, so that a
    resumed run's curves are those of an undisturbed one.
    """

    def metrics(self, values: Mapping[str, float], step: int) -> None: ...

    def image(self, key: str, image: "Image", step: int) -> None: ...

    def text(self, name: str, text: str) -> None: ...

    def file(self, path: Path) -> None: ...

    def state(self) -> dict[str, bytes]: ...

    def restore(self, state: Mapping[str, bytes]) -> None: ...


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

    def state(self) -> dict[str, bytes]:
        return {}

    def restore(self, state: Mapping[str, bytes]) -> None:
        return None


class FileReporter(NullReporter):
    """Writes ``curves.csv`` (step, name, value) and ``images/KEY@STEP.png`` into a folder, whose bytes are the same in every run: times and rates stay out."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._written: set[str] = set()

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        path = self._path("curves.csv")
        new = not path.exists()
        with open(path, "a", newline="") as handle:
            writer = csv.writer(handle)
            if new:
                writer.writerow(["step", "name", "value"])
            writer.writerows([step, name, float(value)] for name, value in values.items() if not name.startswith(VOLATILE))

    def image(self, key: str, image: "Image", step: int) -> None:
        image.save(self._path(f"images/{key.replace('/', '_')}@{step}.png"))

    def text(self, name: str, text: str) -> None:
        self._path(name).write_text(text)

    def state(self) -> dict[str, bytes]:
        return {name: (self.folder / name).read_bytes() for name in sorted(self._written)}

    def restore(self, state: Mapping[str, bytes]) -> None:
        for name in self._written - set(state):
            (self.folder / name).unlink(missing_ok=True)
        self._written = set()
        for name, data in state.items():
            self._path(name).write_bytes(data)

    def _path(self, name: str) -> Path:
        self._written.add(name)
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


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

    def state(self) -> dict[str, bytes]:
        return {f"{index}/{name}": data for index, reporter in enumerate(self.reporters) for name, data in reporter.state().items()}

    def restore(self, state: Mapping[str, bytes]) -> None:
        for index, reporter in enumerate(self.reporters):
            own = f"{index}/"
            reporter.restore({name.removeprefix(own): data for name, data in state.items() if name.startswith(own)})
