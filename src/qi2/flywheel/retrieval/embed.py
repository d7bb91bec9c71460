"""What turns texts and pictures into vectors: words hashed with their rarity, the run's CLIP, or the hidden states of its condition encoder.

Which of them finds scarcity was measured on the tiny world (`benchmarks.scarcity`, docs/flywheel.md): hashed words with their neighbours, so they are the
default for texts; pictures need the CLIP.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.pretrained import model_source
from qi2.core.publish import file_sha256, write_file

WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+")  # a Chinese, Japanese or Korean character is a word of its own
WIDTH, SPREAD = 512, 8  # of hashed words: dimensions, and how many of them a word takes, so that two words hardly ever fall together
SIZE = 64  # most prompts of one pass through the condition encoder


class Embedder(Protocol):
    """``identity`` changes when the vectors may; ``pictures`` says whether it reads them too, into the same space as texts."""

    identity: str
    width: int
    pictures: bool

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors (n, width) float32."""
        ...

    def images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Vectors (n, width) float32; raises QI2Error where it reads texts only."""
        ...


def words(text: str) -> list[str]:
    """Words in lower case, and every two that follow each other: ``red star`` says more than ``red`` and ``star``."""
    single = WORD.findall(text.lower())
    return [*single, *(f"{first} {second}" for first, second in zip(single, single[1:], strict=False))]


class Lexical:
    """Words and pairs of words, each weighted by how few of the corpus' texts have it, hashed to signs in ``width`` dimensions."""

    pictures = False

    def __init__(self, counts: dict[str, int], total: int, width: int = WIDTH) -> None:
        self.counts, self.total, self.width = counts, total, width
        told = json.dumps([sorted(counts.items()), total, width, SPREAD]).encode()
        self.identity = f"words-{hashlib.sha256(told).hexdigest()[:12]}"

    @staticmethod
    def fit(texts: Sequence[str], width: int = WIDTH) -> "Lexical":
        """Count the words of a corpus; only their digests are kept."""
        counts = Counter(_digest(word) for text in texts for word in set(words(text)))
        return Lexical(dict(counts), len(texts), width)

    @staticmethod
    def load(path: Path) -> "Lexical":
        """Inverse of ``save``. Raises QI2Error for a damaged file."""
        try:
            values = json.loads(path.read_bytes())
            return Lexical(dict(values["counts"]), int(values["total"]), int(values["width"]))
        except (ValueError, KeyError, TypeError) as error:
            raise QI2Error(f"{path} is damaged ({error}); remove {path.parent} and index again") from error

    def save(self, path: Path) -> None:
        """Write the counts, as a whole or not at all."""
        write_file(path, json.dumps({"total": self.total, "width": self.width, "counts": self.counts}).encode())

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """A text without words becomes the same vector as every other such text."""
        found = np.zeros((len(texts), self.width), np.float32)
        for row, text in enumerate(texts):
            for word, times in Counter(words(text)).items():
                places, signs = _places(word, self.width)
                found[row, places] += signs * times**0.5 * self.weight(word)
        found[~found.any(1), 0] = 1.0
        return found

    def weight(self, word: str) -> float:
        """Inverse document frequency; a word that the corpus lacks weighs most."""
        return float(np.log((1 + self.total) / (0.5 + self.counts.get(_digest(word), 0))))

    def images(self, images: Sequence[Image.Image]) -> np.ndarray:
        raise QI2Error("hashed words have no vectors of pictures; choose clip")


class Clip:
    """The run's CLIP or SigLIP: texts and pictures in one space."""

    pictures = True

    def __init__(self, source: str, device: str = "cpu") -> None:
        from qi2.data.filters.clip import ClipScorer
        from qi2.data.filters.models import ModelPaths

        self.scorer = ClipScorer(ModelPaths("", source, ""), device)
        self.identity, self.width = f"clip-{model_digest(source)}", len(self.texts(["a"])[0])

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return np.asarray(self.scorer.embed_texts(list(texts)).cpu().numpy(), np.float32)

    def images(self, images: Sequence[Image.Image]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return np.asarray(self.scorer.embed_images(list(images)).cpu().numpy(), np.float32)


class Hidden:
    """The condition encoder's hidden states of a text: of a stand-in its condition tokens side by side, else their mean."""

    pictures = False

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from qi2.models.condition import ConditionEncoder

        self.encoder = ConditionEncoder.load(folder, device)
        self.identity = f"vlm-{model_digest(model_source(folder))}"
        self.width = self.encoder.width * max(1, self.encoder.last)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        rows: list[Any] = [sample.text for sample in self.encoder.encode(list(texts), [[] for _ in texts], SIZE)]
        return np.stack([np.asarray(row.reshape(-1) if self.encoder.last else row.mean(0), np.float32) for row in rows])

    def images(self, images: Sequence[Image.Image]) -> np.ndarray:
        raise QI2Error("the condition encoder's hidden states are of texts; choose clip for pictures")


@lru_cache(maxsize=1 << 16)
def _places(word: str, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Dimensions and signs of a word, from its hash."""
    raw = hashlib.blake2b(word.encode(), digest_size=4 * SPREAD).digest()
    numbers = np.frombuffer(raw, np.uint32)
    places, first = np.unique(numbers >> 1, return_index=True)
    dims, at = np.unique(places % width, return_index=True)
    return dims, np.where(numbers[first[at]] & 1, 1.0, -1.0).astype(np.float32)


def _digest(word: str) -> str:
    return hashlib.blake2b(word.encode(), digest_size=8).hexdigest()


def model_digest(source: str) -> str:
    """12 hex digits of a model: of its files where it is a folder, else of its hub id."""
    folder = Path(source)
    if not folder.is_dir():
        return hashlib.sha256(source.encode()).hexdigest()[:12]
    told = [(path.name, file_sha256(path)) for path in sorted(folder.iterdir()) if path.suffix in (".safetensors", ".json")]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]
