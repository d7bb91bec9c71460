"""The condition encoder's batches: bounded in prompts and in tokens, so that long prompts with many references fit a GPU."""

from typing import Any

import torch
from PIL import Image

from qi2.models import condition
from qi2.models.condition import ConditionEncoder


def test_a_batch_is_bounded_in_prompts_and_tokens_but_holds_one_prompt_at_least() -> None:
    lengths = [10, 20, 30_000, 40_000, 70_000, 80_000]
    assert list(condition._batches([0, 1, 2, 3, 4, 5], lengths, 2)) == [[0, 1], [2], [3], [4], [5]]
    assert list(condition._batches([0, 1, 2], lengths, 64)) == [[0, 1], [2]]
    assert list(condition._batches([], [], 64)) == []


def test_smaller_batches_give_the_same_states_in_the_same_order(small_world: Any, monkeypatch: Any) -> None:
    encoder = ConditionEncoder.load(small_world.vlm, "cpu", "float32")
    prompts, references = ["a red circle", "make it blue", "a star"], [[], [Image.new("RGB", (64, 64), "red")], []]
    together = encoder.encode(prompts, references)
    monkeypatch.setattr(condition, "MOST_TOKENS", 1)
    for a, b in zip(together, encoder.encode(prompts, references), strict=True):
        assert a.layout == b.layout
        torch.testing.assert_close(a.text, b.text, rtol=1e-4, atol=1e-5)
