"""What a scorer is, and what answers each protocol gives. Torch-free.

- ``detector``: {"objects": [{"class", "box": [left, top, right, bottom], "score", "color"}, ...]}
- ``ocr``: {"lines": [text, ...]} in reading order
- ``vqa``: {"answers": {question id: true or false}}
- ``similarity``: {"similarities": [one per reference]}
- ``judge``: {"scores": {criterion: number}}
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Protocol

from PIL import Image

from qi2.evaluation.aggregate.base import Answer
from qi2.evaluation.suites.row import Row

PROTOCOLS = ("detector", "ocr", "vqa", "similarity", "judge")


class Scorer(Protocol):
    """``name`` is printed beside the protocol; ``identity`` changes when answers may, and stored answers are kept under it."""

    name: str
    identity: str

    def answer(self, pictures: Sequence[Image.Image], row: Row) -> list[Answer | None]:
        """One answer per picture of the row's prompt; None where a model's reply could not be understood."""
        ...


def code_hash(*modules: ModuleType) -> str:
    """A digest of source files, so that an answer of older code is not taken for one of today's."""
    digest = hashlib.sha256()
    for module in modules:
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()[:16]
