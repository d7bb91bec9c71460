"""What the enhancer reads and writes: a chat with one instruction per task; the reasoning in think tags, the prompt in answer tags."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qi2.enhancer.quotes import MARKS, mask
from qi2.models.templates import USER

THINK, UNTHINK, ANSWER, UNANSWER = TAGS = ("<think>", "</think>", "<answer>", "</answer>")
SYSTEM = "<|im_start|>system\n{}<|im_end|>\n"
END = "<|im_end|>"
FULL = "the prompt is full"  # the reasoning where nothing is missing


@dataclass(frozen=True)
class Parsed:
    """Reasoning and prompt of one reply; ``prompt`` is empty where the reply has none."""

    reasoning: str
    prompt: str


def question(tokenizer: Any, instructions: Mapping[str, str], task: str, prompt: str) -> str:
    """The text that a reply follows, by the tokenizer's chat template, or plain ChatML where it has none.

    Control tokens in a prompt are taken out, and texts to be shown stand as marks.
    """
    prompt, _ = mask(plain(prompt, tokenizer))
    if getattr(tokenizer, "chat_template", None):
        messages = [{"role": "system", "content": instructions[task]}, {"role": "user", "content": prompt}]
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    return SYSTEM.format(instructions[task]) + USER.format(prompt)


def answer(reasoning: str, fine: str, short: str) -> str:
    """The reply that is learned, without its end token; texts to be shown have the marks that they have in the short prompt."""
    _, texts = mask(short)
    return f"{THINK}{mask(reasoning, texts)[0]}{UNTHINK}{ANSWER}{mask(fine, texts)[0]}{UNANSWER}"


def plain(text: str, tokenizer: Any) -> str:
    """A user's text without the model's own control tokens and tags, so that it cannot speak for the model."""
    for token in {*getattr(tokenizer, "all_special_tokens", ()), *TAGS, *MARKS}:
        text = text.replace(token, " ")
    return " ".join(re.sub(r"<\|[^|>]*\|>", " ", text).split())


def parse(reply: str) -> Parsed:
    """Take what stands in answer tags, else what follows the reasoning; never raises."""
    reply = reply.replace(END, "").replace("<|endoftext|>", "")
    head, _, rest = reply.rpartition(UNTHINK)
    reasoning = head.rpartition(THINK)[2].strip()
    if ANSWER in rest:
        inside = rest.partition(ANSWER)[2]
        return Parsed(reasoning, inside.partition(UNANSWER)[0].strip() if UNANSWER in inside else "")
    if THINK in rest:
        return Parsed(reasoning, "")
    return Parsed(reasoning, rest.strip() if head else "")
