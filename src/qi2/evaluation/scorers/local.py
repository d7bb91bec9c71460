"""A Qwen3-VL of transformers in this process, and a dual encoder for similarities."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from qi2.core.pretrained import model_source
from qi2.core.publish import file_sha256
from qi2.data.filters.clip import ClipScorer
from qi2.data.filters.models import ModelPaths
from qi2.evaluation.aggregate.base import Answer
from qi2.evaluation.suites.row import Row
from qi2.models.condition import ConditionEncoder, fit_reference
from qi2.models.pixels import flatten_alpha

MOST_TOKENS = 512  # of a reply
MOST_PIXELS = 1024 * 1024  # of an image that it looks at


class LocalVLM:
    """A folder or hub id of a Qwen3-VL."""

    def __init__(self, path: str, device: str = "cpu") -> None:
        self.encoder = ConditionEncoder.load(path, device)
        self.name, self.identity = name_of(path), f"local {identity_of(path)}"

    def ask(self, text: str, images: Sequence[Image.Image]) -> str:
        """The likeliest reply to a text with images before it."""
        fitted = [fit_reference(image, min(image.width * image.height, MOST_PIXELS)) for image in images]
        return self.encoder.answer([text], [fitted], MOST_TOKENS)[0]


class ClipSimilarity:
    """Cosines of a dual encoder's image vectors (CLIP, SigLIP), picture to reference."""

    def __init__(self, path: str, device: str = "cpu") -> None:
        self.clip = ClipScorer(ModelPaths("", model_source(path), ""), device)
        self.name, self.identity = name_of(path), f"similarity {identity_of(path)}"

    def answer(self, pictures: Sequence[Image.Image], row: Row) -> list[Answer | None]:
        """A cosine for every reference of the row."""
        images = [flatten_alpha(reference.open(max(pictures[0].size))) for reference in row.references]
        vectors = self.clip.embed_images([*map(flatten_alpha, pictures), *images])
        cosines = (vectors[: len(pictures)] @ vectors[len(pictures) :].T).tolist()
        return [{"similarities": values} for values in cosines]


def name_of(path: str) -> str:
    """The model's name; a small one that a run has trained itself is named as a stand-in."""
    source = Path(model_source(path))
    return f"standin-{source.name}" if source.resolve().parent.name == "standins" and source.is_dir() else source.name


def identity_of(path: str) -> str:
    """The model's source, and the hashes of its weights where it is a folder."""
    folder = Path(model_source(path))
    weights = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    return " ".join([folder.name if weights else str(path), *(file_sha256(file)[:16] for file in weights)])
