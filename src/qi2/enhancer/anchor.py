"""What keeps RL from bending what SFT taught: SFT's own loss beside it (PPO-ptx, Ouyang et al., 2022, section 3.5)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from qi2.core import rng
from qi2.enhancer.config import EnhancerConfig
from qi2.enhancer.template import END, answer, question
from qi2.enhancer.triplets import Triplet

IGNORED = -100  # a label that counts for nothing


class Anchor:
    """The mean negative log-likelihood per token of the answers of a batch of triplets, which depends on the step alone."""

    def __init__(self, tokenizer: Any, triplets: Sequence[Triplet], config: EnhancerConfig, seed: int) -> None:
        self.tokenizer, self.triplets, self.config, self.seed = tokenizer, triplets, config, seed

    def __call__(self, model: Any, step: int) -> Tensor:
        """A scalar, of as many triplets as a step of SFT reads."""
        chosen = rng.numpy_rng(self.seed, "enhancer/anchor", step).integers(len(self.triplets), size=self.config.sft.batch_size)
        rows = [self._tokens(self.triplets[int(i)]) for i in chosen]
        length = max(len(tokens) for tokens, _ in rows)
        ids = torch.full((len(rows), length), self.tokenizer.pad_token_id)
        labels = torch.full((len(rows), length), IGNORED)
        for i, (tokens, asked) in enumerate(rows):
            ids[i, : len(tokens)] = torch.tensor(tokens)
            labels[i, asked : len(tokens)] = ids[i, asked : len(tokens)]
        shown = torch.arange(length) < torch.tensor([[len(tokens)] for tokens, _ in rows])
        device = model.device
        loss: Tensor = model(input_ids=ids.to(device), attention_mask=shown.to(device), labels=labels.to(device)).loss
        return loss

    def _tokens(self, triplet: Triplet) -> tuple[list[int], int]:
        """Of question and answer, and how many of them are the question's."""
        asked = self.tokenizer(question(self.tokenizer, self.config.instructions, triplet.task, triplet.short))["input_ids"]
        said = self.tokenizer(answer(triplet.reasoning, triplet.fine, triplet.short) + END)["input_ids"]
        return asked + said, len(asked)
