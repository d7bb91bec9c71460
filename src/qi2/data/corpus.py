"""Question-answer examples from the raw data, for training the stand-in vision-language model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.data.world.captions import structured_caption
from qi2.data.world.edits import Edit
from qi2.data.world.scene import Scene

DESCRIBE = "describe the image"
READ, EDIT = ("text", "text", "image"), ("edit", "text", "edit", "edit", "text", "image")
ATTEMPTS = 50  # images that may be unreadable one after the other
READ_SHARE = 0.5  # of the training; who cannot read captions and pictures learns little from instructions


@dataclass(frozen=True)
class Example:
    """One conversation: a prompt with images, the structured caption that it leads to (empty: unknown), and a caption to answer with."""

    prompt: str
    structured: str
    images: tuple[Image.Image, ...] = ()
    caption: str = ""


@dataclass(frozen=True)
class Record:
    """What the corpus needs of one sidecar row; ``structured`` is empty where no scene is known."""

    captions: tuple[str, ...]
    structured: str
    images: tuple[str, ...]  # ids to read: the image itself (T2I), or the references (TI2I)
    edit: bool


class Corpus:
    """Draws examples of three tasks: text, image, and (references, instruction), each -> structured caption."""

    def __init__(self, train: Sequence[Record], heldout: Sequence[Record], read: Callable[[str, int], Image.Image], sizes: Sequence[int]) -> None:
        self.read, self.sizes = read, tuple(sizes)
        self.train, self._heldout = _by_task(train), _by_task(heldout)

    @property
    def structured(self) -> bool:
        """Whether any prompt has a structured caption to learn; a user's own images have none."""
        return "text" in self.train or "edit" in self.train

    def texts(self) -> list[str]:
        """All captions, instructions and structured captions of the training rows, for the tokenizer."""
        records = {id(r): r for rows in self.train.values() for r in rows}.values()
        return [DESCRIBE] + [text for r in records for text in (*r.captions, r.structured)]

    def turn(self, step: int, steps: int) -> str:
        """The task of a step, of those that the data has: first captions and pictures in a fixed turn, then mostly instructions."""
        turns = [task for task in (READ if step < READ_SHARE * steps else EDIT) if task in self.train]
        return turns[step % len(turns)] if turns else next(iter(self.train))

    def draw(self, rng: np.random.Generator, task: str, n: int) -> list[Example]:
        """``n`` examples of one task, their images all of one size."""
        records = self.train[task]
        size = self.sizes[int(rng.integers(len(self.sizes)))]
        return [self._readable(task, records, int(i), rng, size) for i in rng.integers(len(records), size=n)]

    def heldout(self, n: int = 200) -> dict[str, list[Example]]:
        """Up to ``n`` held-out examples per task, at the largest size."""
        rng = np.random.Generator(np.random.PCG64(0))
        return {task: [self._readable(task, rows, i, rng, max(self.sizes)) for i in range(min(n, len(rows)))] for task, rows in self._heldout.items()}

    def _readable(self, task: str, records: Sequence[Record], index: int, rng: np.random.Generator, size: int) -> Example:
        """The example of a record, or of another one where its images cannot be decoded; curation, which comes later, reports those."""
        for _ in range(ATTEMPTS):
            try:
                return self._example(task, records[index], rng, size)
            except QI2Error as error:
                unreadable, index = error, int(rng.integers(len(records)))
        raise QI2Error(f"{ATTEMPTS} images in turn cannot be decoded, the last one: {unreadable}")

    def _example(self, task: str, record: Record, rng: np.random.Generator, size: int) -> Example:
        caption = record.captions[int(rng.integers(len(record.captions)))]
        if task == "text":
            return Example(caption, record.structured)
        images = tuple(self.read(name, size).convert("RGB").resize((size, size), Image.Resampling.BOX) for name in record.images)
        if task == "edit":
            return Example(caption, record.structured, images)
        return Example(DESCRIBE, record.structured, images, caption)


def record(captions: Sequence[str], scene: str | None, edit: str | None, own: str, references: Sequence[str]) -> Record:
    """A record from a sidecar row's fields."""
    if edit:
        return Record(tuple(captions), structured_caption(Edit.from_json(edit).target), tuple(references), True)
    return Record(tuple(captions), structured_caption(Scene.from_json(scene)) if scene else "", (own,), False)


def _by_task(records: Sequence[Record]) -> dict[str, list[Record]]:
    tasks = {
        "edit": [r for r in records if r.edit and r.structured],
        "image": [r for r in records if not r.edit],
        "text": [r for r in records if not r.edit and r.structured],
    }
    return {task: rows for task, rows in tasks.items() if rows}
