"""Hidden states of prompts on disk: what was encoded once is not encoded again, until the encoder, the template or the input changes."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from qi2.core.publish import write_file
from qi2.models import templates
from qi2.models.condition import ConditionEncoder
from qi2.models.sequence import EncodedPrompt

IMAGE = -1  # marks an image in a stored layout


class CachedEncoder:
    """A condition encoder that keeps its hidden states in ``folder``, one file per prompt with its references.

    The key is the content of prompt and reference pixels, the encoder's weights, config and tokenizer, and the template. ``dtype`` is what
    is stored; half precision is what the line stores anyway. Several processes may share a folder, and a damaged file is made anew.
    """

    def __init__(self, encoder: ConditionEncoder, folder: Path, dtype: torch.dtype = torch.float16) -> None:
        self.encoder, self.folder, self.dtype = encoder, Path(folder), dtype
        self.identity = encoder_hash(encoder) + str(dtype)
        self.hits = 0

    def encode(self, prompts: list[str], references: list[list[Image.Image]], batch_size: int = 64) -> list[EncodedPrompt]:
        """As `ConditionEncoder.encode`, for what is not in the folder; float32 as there."""
        keys = [self._key(prompt, images) for prompt, images in zip(prompts, references, strict=True)]
        found = {key: entry for key in set(keys) if (entry := self._read(key)) is not None}
        self.hits += sum(key in found for key in keys)
        todo = {key: i for i, key in reversed(list(enumerate(keys))) if key not in found}
        chosen = sorted(todo.values())
        for i, made in zip(chosen, self.encoder.encode([prompts[i] for i in chosen], [references[i] for i in chosen], batch_size), strict=True):
            found[keys[i]] = self._write(keys[i], made)
        return [found[key] for key in keys]

    def _key(self, prompt: str, images: list[Image.Image]) -> str:
        digest = hashlib.sha256(json.dumps([self.identity, prompt, [[i.mode, *i.size] for i in images]]).encode())
        for image in images:
            digest.update(image.tobytes())
        return digest.hexdigest()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _read(self, key: str) -> EncodedPrompt | None:
        try:
            stored = load_file(self._path(key))
        except (FileNotFoundError, SafetensorError):
            return None
        return EncodedPrompt(stored["text"].float(), [None if n == IMAGE else n for n in stored["layout"].tolist()])

    def _write(self, key: str, made: EncodedPrompt) -> EncodedPrompt:
        text = made.text.to(self.dtype)
        layout = torch.tensor([IMAGE if n is None else n for n in made.layout])
        self._path(key).parent.mkdir(parents=True, exist_ok=True)
        write_file(self._path(key), save({"text": text.contiguous(), "layout": layout}))
        return EncodedPrompt(text.float(), made.layout)


def encoder_hash(encoder: ConditionEncoder) -> str:
    """Hex SHA-256 of all that decides the hidden states beside the input: weights, config, tokenizer, image processor and templates."""
    digest = hashlib.sha256(json.dumps([templates.SYSTEM, templates.USER, templates.IMAGE, encoder.last, encoder.drop]).encode())
    config = encoder.model.config.to_dict() | {"_name_or_path": ""}
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    tokenizer = json.loads(encoder.tokenizer.backend_tokenizer.to_str()) | {"padding": None, "truncation": None}  # every call sets these
    digest.update(json.dumps(tokenizer, sort_keys=True).encode())
    digest.update(json.dumps(encoder.image_processor.to_dict(), sort_keys=True, default=str).encode())
    for name, tensor in sorted(encoder.model.state_dict().items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
