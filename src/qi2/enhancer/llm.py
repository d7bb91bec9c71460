"""Degradation by a language model (report section 3.3): it names the category, applies the sampled strategies and gives the inverse reasoning.

What it writes is checked like a rewrite, the other way round; where it fails the checks as often as it may try, the exact rules take the annotation.
"""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qi2.core.rng import key
from qi2.enhancer import lm
from qi2.enhancer.categories import classify
from qi2.enhancer.checks import script
from qi2.enhancer.config import CATEGORIES, TripletsConfig
from qi2.enhancer.strategies.base import quoted
from qi2.enhancer.template import FULL
from qi2.enhancer.triplets import Annotation, Degrader, Triplet, triplet_of

CLASSIFY = "Which kind of picture does this describe: general, portrait, text (words to be shown) or complex_text (many words, a layout)? Answer with one word."
DEGRADE = (
    "You write what a hurried user would have typed instead of a detailed prompt. Apply exactly these steps:\n{steps}\n"
    "Never change text in quotes or the language. Answer with one JSON object: "
    '{{"short": "what the user would type", "reasoning": "how one gets from it back to the detailed prompt, step by step"}}'
)
EDIT = (
    "Summarise this editing instruction as a user would type it: one short sentence, the same change, text in quotes unchanged. Answer with one JSON object: "
    '{{"short": "...", "reasoning": "what has to be added again"}}'
)
TOKENS = 512
OBJECT = re.compile(r"\{.*\}", re.S)


class LLMDegrader:
    """Like ``Degrader``, with a chat model; ``counts`` says what became of its replies."""

    def __init__(self, config: TripletsConfig, rules: Degrader, device: str = "cpu") -> None:
        self.config, self.rules, self.counts = config, rules, Counter[str]()
        self.model, self.tokenizer = lm.load(Path(config.llm), device)

    def __call__(self, annotation: Annotation, draw: np.random.Generator) -> Triplet:
        """One triplet, by the model where its reply holds, else by the rules."""
        category = self._category(annotation.fine)
        if draw.random() < self.config.keep:
            return triplet_of(annotation, category, annotation.fine, FULL, [], [])
        chosen = self.rules.sampled(annotation.task, category, draw)
        steps = "\n".join(f"- {strategy.about}" for strategy in chosen) or "- Say it more casually."
        system = DEGRADE.format(steps=steps) if annotation.task == "t2i" else EDIT.format()
        for _ in range(self.config.llm_tries):
            found = read_reply(self._reply(system, annotation.fine, int(draw.integers(1 << 31))))
            reason = refusal(annotation.fine, found)
            self.counts[reason or "taken"] += 1
            if found is not None and not reason:
                return triplet_of(annotation, category, *found, [strategy.name for strategy in chosen], [])
        self.counts["rules"] += 1
        return self.rules.apply(annotation, category, chosen, draw)

    def _category(self, prompt: str) -> str:
        word = self._reply(CLASSIFY, prompt, 0, tokens=8).strip().strip(".").lower()
        return word if word in CATEGORIES else classify(prompt)

    @torch.inference_mode()
    def _reply(self, system: str, prompt: str, seed: int, tokens: int = TOKENS) -> str:
        """One sampled reply, or with seed 0 the likeliest one."""
        messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
        inputs = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True, enable_thinking=False)
        inputs = {name: value.to(self.model.device) for name, value in inputs.items()}
        torch.manual_seed(key(seed, "enhancer/llm"))
        ids: Any = self.model.generate(**inputs, max_new_tokens=tokens, do_sample=seed > 0, pad_token_id=self.tokenizer.pad_token_id)
        return str(self.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


def read_reply(reply: str) -> tuple[str, str] | None:
    """(short, reasoning) of the JSON object in a reply; None where there is none."""
    found = OBJECT.search(reply.rpartition("</think>")[2])
    try:
        values = json.loads(found[0]) if found else {}
    except ValueError:
        return None
    short, reasoning = (values.get(name) for name in ("short", "reasoning")) if isinstance(values, dict) else (None, None)
    if not (isinstance(short, str) and isinstance(reasoning, str) and short.strip() and reasoning.strip()):
        return None
    return " ".join(short.split()), " ".join(reasoning.split())


def refusal(fine: str, found: tuple[str, str] | None) -> str:
    """Why a degradation is not taken; "" where it is."""
    if found is None:
        return "no JSON"
    if Counter(quoted(found[0])) - Counter(quoted(fine)):
        return "quoted text changed"
    if script(found[0]) != script(fine):
        return "language changed"
    return "longer than the annotation" if len(found[0]) > len(fine) else ""
