"""What the enhancer is asked and what it answers. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL.Image import Image


@dataclass(frozen=True)
class Request:
    """A prompt, or an editing instruction with its source pictures. A causal text model does not look at these."""

    prompt: str
    task: str = "t2i"
    references: Sequence[Image] = ()


@dataclass(frozen=True)
class Rewrite:
    """What became of a prompt. ``fallback`` says why the original stands, and is empty where it was rewritten."""

    original: str
    enhanced: str
    reasoning: str
    fallback: str = ""

    @property
    def text(self) -> str:
        """What the generator should read."""
        return self.original if self.fallback else self.enhanced
