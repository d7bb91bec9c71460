"""A real reader that comes with its models: RapidOCR (PP-OCR on onnxruntime, Apache-2.0), the extra ``ocr``. Needs no download.

It reads English, German, French, Spanish and Polish, in part Vietnamese, and has the characters of Chinese and Japanese; other scripts come back as
nothing or nonsense (docs/suites.md has what was measured): name a served model for those.
"""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.evaluation.aggregate.base import Answer
from qi2.evaluation.suites.row import Row
from qi2.models.pixels import flatten_alpha

LEAST_SIDE = 256  # px; smaller pictures are doubled until they have it, because the detector was trained on photographs of pages


class RapidReader:
    """Lines in reading order: from the top, and from the left where they stand at one height."""

    name = "rapidocr"

    def __init__(self) -> None:
        try:
            from rapidocr import RapidOCR
        except ImportError as error:
            raise QI2Error('no OCR is installed here; pip install "qi2[ocr]", or name a served model: --scorer ocr=http://HOST:PORT/v1#MODEL') from error
        self.reader = RapidOCR(params={"Global.log_level": "error"})
        self.identity = f"rapidocr {version('rapidocr')} least {LEAST_SIDE}"

    def answer(self, pictures: Sequence[Image.Image], row: Row) -> list[Answer | None]:
        """The lines of each picture."""
        return [{"lines": self.lines(picture)} for picture in pictures]

    def lines(self, picture: Image.Image) -> list[str]:
        """What one picture says."""
        image = flatten_alpha(picture)
        factor = max(1, -(-LEAST_SIDE // min(image.size)))
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
        found: Any = self.reader(np.asarray(image)[:, :, ::-1])  # it expects blue first
        return reading_order([np.asarray(box) for box in found.boxes], list(found.txts)) if found.txts else []


def reading_order(boxes: Sequence[np.ndarray], texts: Sequence[str]) -> list[str]:
    """Texts by their boxes (corners, 2): boxes whose middles lie within half a height of the first's are one line, read from the left."""
    middles = [(float(box[:, 1].mean()), float(box[:, 0].min()), float(np.ptp(box[:, 1]))) for box in boxes]
    left, lines = sorted(range(len(texts)), key=lambda i: middles[i][0]), []
    while left:
        top, _, height = middles[left[0]]
        line = [i for i in left if middles[i][0] - top < height / 2]
        lines += [texts[i] for i in sorted(line, key=lambda i: middles[i][1])]
        left = [i for i in left if i not in line]
    return lines
