"""Use the five reward models: calibrated scores of pictures, higher is better."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from qi2.core.errors import QI2Error
from qi2.models.condition import ConditionEncoder
from qi2.models.pixels import flatten_alpha, to_tensor
from qi2.models.storage import device_of
from qi2.rewards.config import DIMENSIONS, NEEDS, RewardsConfig
from qi2.rewards.data import PromptReader, pad
from qi2.rewards.heads import RewardModel
from qi2.rewards.images import names_person
from qi2.training.pictures import square

BATCH = 128
Sources = Image.Image | Sequence[Image.Image]


class Asked(Protocol):
    """A prompt with the pictures that it edits, none for T2I."""

    text: str
    sources: Any


class Answer(Protocol):
    """A picture made for a prompt."""

    prompt: Any
    image: Image.Image


class RewardModels:
    """All reward models of a run, with the VLM that reads the prompts for them."""

    def __init__(self, models: dict[str, RewardModel], encoder: ConditionEncoder) -> None:
        self.models, self.encoder = models, encoder

    @classmethod
    def load(cls, folder: Path, vlm: Path, names: Sequence[str] = (), device: str = "cpu") -> "RewardModels":
        """Load the results of stage `rewards`, or some of them; ``vlm`` is the Qwen3-VL that they were trained on.

        Raises QI2Error where one is missing or has no such name.
        """
        if unknown := [name for name in names if name not in DIMENSIONS]:
            raise QI2Error(f"no reward {unknown[0]!r}; choose from {', '.join(DIMENSIONS)}")
        encoder = ConditionEncoder.load(vlm, device)
        visual, place = encoder.model.model.visual, device_of(device)
        return cls({name: RewardModel.load(Path(folder) / name, visual, encoder.width).to(place) for name in names or DIMENSIONS}, encoder)

    @torch.inference_mode()
    def score(self, dimension: str, prompts: Sequence[str], images: Sequence[Image.Image], sources: Sequence[Sources] | None = None) -> Tensor:
        """Calibrated scores (B,) of B images for their prompts: 0 is the mean of the reference pictures, a difference of 1 a logit of 1.

        ``sources`` are the pictures that were edited, one or several per image; instruction and consistency need them.
        Every different prompt is read once, however many images it has.
        """
        if dimension not in self.models:
            raise QI2Error(f"no reward dimension {dimension!r}; choose from {', '.join(self.models)}")
        model, needs = self.models[dimension], NEEDS[dimension]
        if needs.source and sources is None:
            raise QI2Error(f"the {dimension} reward judges edits; give the source picture of every image")
        size, device = model.config.size, next(model.head.parameters()).device
        groups = [[s] if isinstance(s, Image.Image) else list(s) for s in sources or [()] * len(images)]
        squares = _squares([*images, *(image for group in groups for image in group)], size)
        states = None
        if needs.prompt:
            states = PromptReader(self.encoder)(list(prompts), [[squares[id(image)] for image in group] for group in groups])
        parts = []
        for start in range(0, len(images), BATCH):
            rows = range(start, min(start + BATCH, len(images)))
            inputs = {"images": to_tensor([squares[id(images[i])] for i in rows])[:, None]}
            if needs.source:
                inputs["source"] = to_tensor([squares[id(groups[i][0])] for i in rows])
            if states is not None:
                inputs["prompt"], inputs["mask"] = pad([states[i] for i in rows])
            parts.append(model(**{name: value.to(device) for name, value in inputs.items()}).mean[:, 0].float().cpu())
        return model.calibrated(torch.cat(parts)) if parts else torch.zeros(0)

    def scorers(self, portrait_words: Sequence[str] | None = None) -> dict[str, Callable[[Sequence[Answer]], Tensor]]:
        """A scorer per reward for reinforcement learning: NaN (0-d per answer) where a reward does not apply.

        alignment judges T2I, instruction and consistency judge edits, portrait judges T2I prompts that name a person.
        """
        words = RewardsConfig().portrait_words if portrait_words is None else portrait_words
        return {name: self._scorer(name, words) for name in self.models}

    def _scorer(self, name: str, words: Sequence[str]) -> Callable[[Sequence[Answer]], Tensor]:
        def scorer(answers: Sequence[Answer]) -> Tensor:
            scores = torch.full((len(answers),), torch.nan)
            rows = [i for i, answer in enumerate(answers) if applies(name, answer.prompt, words)]
            if rows:
                chosen = [answers[i] for i in rows]
                sources = [answer.prompt.sources for answer in chosen] if NEEDS[name].source else None
                scores[rows] = self.score(name, [answer.prompt.text for answer in chosen], [answer.image for answer in chosen], sources)
            return scores

        return scorer


def applies(name: str, prompt: Asked, portrait_words: Sequence[str]) -> bool:
    """Whether a reward can judge the pictures of a prompt."""
    edit = len(prompt.sources) > 0
    if NEEDS[name].source:
        return edit
    if name == "aesthetic":
        return True
    return not edit and (name == "alignment" or names_person(prompt.text, portrait_words))


def _squares(images: Sequence[Image.Image], size: int) -> dict[int, Image.Image]:
    """Every picture, by its identity, as RGB at the models' size."""
    return {id(image): square(flatten_alpha(image) if image.mode != "RGB" else image, size) for image in images}
