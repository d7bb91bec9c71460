"""The pictures that an evaluation keeps: single samples, labelled grids, and the same keys for every model in the tracker."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from qi2.core.reporter import Reporter
from qi2.evaluation.grids import Cell, grid
from qi2.evaluation.models import CHAIN, LABELS
from qi2.evaluation.score import Verdict
from qi2.evaluation.suites.world import EditItem, Prompt


class Samples:
    """Writes ``samples/MODEL/SUITE-K.png`` for the first ``shown`` items and ``grids/*.png`` into ``folder``.

    The tracker gets the first ``tracked`` items of the chain's models as ``samples/promptK`` and ``samples/editK``, one step per
    model: equal keys and steps are what its comparison of runs lines up.
    """

    def __init__(self, folder: Path, reporter: Reporter, shown: int, tracked: int) -> None:
        self.folder, self.reporter, self.shown, self.tracked = folder, reporter, shown, tracked
        self.kept: dict[tuple[str, str], list[Image.Image]] = {}
        self.step = 0

    def keep(self, model: str, suite: str, pictures: Sequence[Image.Image]) -> None:
        """Keep the first pictures of a model (or of ``source``, ``target``) on a suite (``t2i`` or ``edit``)."""
        self.kept[model, suite] = list(pictures[: self.shown])
        for index, picture in enumerate(self.kept[model, suite]):
            self.save(picture, f"{model}/{suite}-{index}")

    def track(self, model: str) -> None:
        """Send a model's kept pictures to the tracker, as the next step of every key."""
        for suite, name in (("t2i", "prompt"), ("edit", "edit")):
            for index, picture in enumerate(self.kept.get((model, suite), [])[: self.tracked]):
                self.reporter.image(f"samples/{name}{index}", picture, self.step)
        self.step += 1

    def edit_sources(self, references: Sequence[Sequence[Image.Image]], targets: Sequence[Image.Image]) -> None:
        """Keep every reference image of the shown edits, and their targets."""
        self.keep("target", "edit", targets)
        self.kept["source", "edit"] = [images[0] for images in references[: self.shown]]
        for k, images in enumerate(references[: self.shown]):
            for j, image in enumerate(images):
                self.save(image, f"source/edit-{k}-{j}")

    def save(self, picture: Image.Image, name: str) -> None:
        """Write one picture as ``samples/NAME.png``."""
        path = self.folder / "samples" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)

    def write_grid(self, name: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Cell | None]]]) -> None:
        """Write ``grids/NAME.png`` and send it to the tracker."""
        sheet = grid(columns, rows)
        (self.folder / "grids").mkdir(exist_ok=True)
        sheet.save(self.folder / "grids" / f"{name}.png")
        self.reporter.image(f"grids/{name}", sheet, 0)

    def t2i_grid(self, items: Sequence[Prompt], verdicts: Mapping[str, Sequence[Verdict]]) -> None:
        """Prompts down, models across: base | continual | SFT | RL | 4-step, then the baselines."""
        models = [name for name in (*LABELS, *verdicts) if name in verdicts]
        models = list(dict.fromkeys(models))
        rows = [(item.prompt, [Cell(self.kept[m, "t2i"][k], verdicts[m][k].get("all")) for m in models]) for k, item in enumerate(items[: self.shown])]
        self.write_grid("t2i", [LABELS.get(m, m) for m in models], rows)

    def edit_grid(self, items: Sequence[EditItem], verdicts: Mapping[str, Sequence[Verdict]]) -> None:
        """Instructions down; source, every model's result and the target across."""
        models = [name for name in dict.fromkeys((*CHAIN, *verdicts)) if name in verdicts]
        rows: list[tuple[str, Sequence[Cell | None]]] = []
        for k, item in enumerate(items[: self.shown]):
            results = [Cell(self.kept[m, "edit"][k], verdicts[m][k]["done"]) for m in models]
            rows.append((item.prompt, [Cell(self.kept["source", "edit"][k]), *results, Cell(self.kept["target", "edit"][k])]))
        self.write_grid("edit", ["source", *(LABELS.get(m, m) for m in models), "target"], rows)
