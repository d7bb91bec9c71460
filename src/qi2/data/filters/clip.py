"""CLIP (report 2.3, stage 1): image-text similarity of a dual encoder (CLIP, SigLIP, SigLIP2), against pairs that do not belong together.

Trap: SigLIP learned from texts that are all padded to its full length and reads the last token, whatever the padding; others mask it.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.data.curate_config import StageThresholds
from qi2.data.filters.aesthetic import AestheticHead
from qi2.data.filters.base import IMAGE, Filter, outside
from qi2.data.filters.models import ModelPaths, load_pretrained

if TYPE_CHECKING:
    import pandas as pd
    import torch

KINDS = ("clip", "siglip")  # model types; SigLIP2 of fixed resolution is of type siglip
TEXTS = 128  # captions per forward pass


class ClipScorer:
    """A dual encoder of fixed resolution with its own image processor and tokenizer; raises QI2Error for other models.

    Where ``paths.aesthetic`` names a head, the same image vectors give the aesthetic score.
    """

    roles = (IMAGE,)

    def __init__(self, paths: ModelPaths, device: str = "cpu") -> None:
        from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

        self.device = device
        load = {"what": "CLIP model", "key": "standins.clip.path"}
        kind = load_pretrained(AutoConfig.from_pretrained, paths.clip, **load).model_type
        if kind not in KINDS:
            raise QI2Error(f"standins.clip.path={paths.clip!r} is a model of type {kind!r}; give one of {', '.join(KINDS)} (SigLIP2: fixed size, no NaFlex)")
        self.padded = kind == "siglip"
        self.processor = load_pretrained(AutoImageProcessor.from_pretrained, paths.clip, **load)
        self.tokenizer = load_pretrained(AutoTokenizer.from_pretrained, paths.clip, **load)
        self.model = load_pretrained(AutoModel.from_pretrained, paths.clip, **load)
        self.model.eval().to(device)
        self.length = int(self.model.config.text_config.max_position_embeddings)
        self.head = AestheticHead(paths.aesthetic, device) if paths.aesthetic else None
        self.columns = ("clip", "embedding", *(("aesthetic",) if self.head else ()))

    def score(self, images: list[Image.Image], captions: list[list[str]]) -> dict[str, np.ndarray]:
        """``clip``: mean cosine -1..1 between a picture and its captions, NaN without captions; ``embedding``: the picture's unit vector, float16 bytes;

        ``aesthetic``, with a head: about 1..10.
        """
        import torch

        with torch.inference_mode():
            pictures = self.embed_images(images)
            scores = {"aesthetic": self.head.score(pictures)} if self.head else {}
        embedding = np.array([vector.tobytes() for vector in pictures.cpu().numpy().astype(np.float16)], dtype=object)
        texts = [text for group in captions for text in group]
        owner = np.repeat(np.arange(len(images)), [len(group) for group in captions])
        if not texts:
            return {"clip": np.full(len(images), np.nan), "embedding": embedding, **scores}
        with torch.inference_mode():
            cosine = (pictures[torch.from_numpy(owner)] * self.embed_texts(texts)).sum(-1)
        total = np.bincount(owner, weights=cosine.cpu().numpy(), minlength=len(images))
        count = np.bincount(owner, minlength=len(images))
        return {"clip": np.where(count > 0, total / np.maximum(count, 1), np.nan), "embedding": embedding, **scores}

    def embed_images(self, images: list[Image.Image]) -> "torch.Tensor":
        """Unit vectors (B, D)."""
        pixels = self.processor(images=images, return_tensors="pt")["pixel_values"].to(self.device)
        return unit(self.model.get_image_features(pixel_values=pixels))

    def embed_texts(self, texts: list[str]) -> "torch.Tensor":
        """Unit vectors (B, D); texts are cut to the model's context, and run with others of their length to save padding."""
        import torch

        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        parts = [self._embed_batch([texts[index] for index in order[start : start + TEXTS]]) for start in range(0, len(texts), TEXTS)]
        embedded = torch.cat(parts)
        return torch.empty_like(embedded).index_copy_(0, torch.tensor(order, device=embedded.device), embedded)

    def _embed_batch(self, texts: list[str]) -> "torch.Tensor":
        padding = "max_length" if self.padded else True
        tokens = self.tokenizer(texts, padding=padding, truncation=True, max_length=self.length, return_tensors="pt").to(self.device)
        mask = {} if self.padded else {"attention_mask": tokens["attention_mask"]}
        return unit(self.model.get_text_features(input_ids=tokens["input_ids"], **mask))


def unit(features: Any) -> "torch.Tensor":
    """Normalised features, from a tensor or (transformers 5) from an output object that holds it as ``pooler_output``."""
    import torch

    tensor = features if isinstance(features, torch.Tensor) else features.pooler_output
    return torch.nn.functional.normalize(tensor.float(), dim=-1)


def _rejects(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    return outside(table["clip"], limits.min_clip, None)


FILTER = Filter("clip", (IMAGE,), ("clip",), _rejects)
