"""Use a trained enhancer: prompts in, rewritten prompts out, the original wherever a rewrite cannot be trusted."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from qi2.config import as_dict, load
from qi2.core.errors import QI2Error
from qi2.core.publish import MANIFEST, verify
from qi2.enhancer import lm
from qi2.enhancer.checks import faults
from qi2.enhancer.config import TASKS, LimitsConfig
from qi2.enhancer.quotes import mask, unmask
from qi2.enhancer.request import Request, Rewrite
from qi2.enhancer.template import FULL, parse, plain, question

CARD = "enhancer.json"  # beside the model: instructions and limits
BATCH = 64


@dataclass
class Enhancer:
    """A causal language model with its instructions and limits."""

    model: Any
    tokenizer: Any
    instructions: dict[str, str]
    limits: LimitsConfig = field(default_factory=LimitsConfig)

    @staticmethod
    def load(folder: str | Path, device: str = "cpu") -> "Enhancer":
        """Load what the stage `enhancer` published. Raises QI2Error where the folder is not whole or is none."""
        folder = Path(folder)
        if not (folder / CARD).exists():
            raise QI2Error(f"{folder} holds no prompt enhancer; train one with `make reproduce STAGE=enhancer`, or name its folder")
        if (folder / MANIFEST).exists():
            verify(folder)
        card = json.loads((folder / CARD).read_text())
        model, tokenizer = lm.load(folder, device)
        return Enhancer(model, tokenizer, card["instructions"], load(LimitsConfig, [card["limits"]]))

    def card(self) -> dict[str, Any]:
        """What ``load`` needs beside the model."""
        return {"instructions": self.instructions, "limits": as_dict(self.limits)}

    def save(self, folder: Path) -> None:
        """Model, tokenizer and card, as ``load`` reads them."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        (folder / CARD).write_text(json.dumps(self.card(), indent=1))

    def enhance(self, requests: Sequence[Request]) -> list[Rewrite]:
        """One rewrite per request, by greedy decoding; a prompt does not depend on the others."""
        if bad := next((r.task for r in requests if r.task not in TASKS), None):
            raise QI2Error(f"no task {bad!r}; choose from {', '.join(TASKS)}")
        found: list[Rewrite] = []
        for i in range(0, len(requests), BATCH):
            part = requests[i : i + BATCH]
            found += [self.judge(request.prompt, reply) for request, reply in zip(part, self._replies(part), strict=True)]
        return found

    def judge(self, prompt: str, reply: str) -> Rewrite:
        """A reply as a rewrite, with the reason where it cannot be one. A prompt that the model calls full stands as it is."""
        _, texts = mask(plain(prompt, self.tokenizer))
        parsed = parse(reply)
        reasoning, rewritten = (unmask(text, texts).strip() for text in (parsed.reasoning, parsed.prompt))
        if reasoning == FULL:
            return Rewrite(prompt, prompt, reasoning)
        if not rewritten:
            return Rewrite(prompt, "", reasoning, "the reply holds no prompt")
        return Rewrite(prompt, rewritten, reasoning, "; ".join(faults(prompt, rewritten, self.limits)))

    @torch.inference_mode()
    def _replies(self, requests: Sequence[Request]) -> list[str]:
        texts = [question(self.tokenizer, self.instructions, r.task, r.prompt) for r in requests]
        inputs = self.tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False).to(self.model.device)
        ids = self.model.generate(
            input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, max_new_tokens=self.limits.tokens, do_sample=False,
            pad_token_id=self.tokenizer.pad_token_id, eos_token_id=self.tokenizer.eos_token_id,
        )  # fmt: skip
        return list(self.tokenizer.batch_decode(ids[:, inputs.input_ids.shape[1] :], skip_special_tokens=False))
