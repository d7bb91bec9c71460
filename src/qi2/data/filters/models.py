"""Shared by the filters that need a transformers model: where the models are, and how they are loaded.

Own stand-ins and real models come through the same calls; a path that is not there fails with the remedy, never silently.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qi2.core.errors import QI2Error


@dataclass(frozen=True)
class ModelPaths:
    """Folders or hub ids (``aesthetic``: a safetensors file), empty where there is none. ``nsfw_label`` is looked up by name in the classifier's id2label."""

    tokenizer: str
    clip: str
    nsfw: str
    aesthetic: str = ""
    orientation: str = ""
    nsfw_label: str = "nsfw"


def load_pretrained(load: Callable[..., Any], source: str, what: str, key: str) -> Any:
    """``from_pretrained`` with a message that names the setting; ``key`` is the config key that holds ``source``."""
    try:
        return load(source)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise QI2Error(f"cannot load the {what} from {source!r} ({reason}); set {key} to a folder with its weights") from error
