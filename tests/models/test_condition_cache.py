"""What was encoded once is read from disk; anything that would change the hidden states is encoded again."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from qi2.models import templates
from qi2.models.condition import ConditionEncoder
from qi2.models.condition_cache import CachedEncoder

PROMPTS, SIZE = ["a red circle", "make it red", "make it red"], (64, 64)


def references(colour: str = "red") -> list[list[Image.Image]]:
    return [[], [Image.new("RGB", SIZE, colour)], [Image.new("RGB", SIZE, colour)]]


@pytest.fixture
def cache(small_world: Any, tmp_path: Path) -> CachedEncoder:
    return CachedEncoder(ConditionEncoder.load(small_world.vlm), tmp_path, torch.float32)


def again(cache: CachedEncoder) -> CachedEncoder:
    return CachedEncoder(cache.encoder, cache.folder, cache.dtype)


def test_the_second_time_nothing_is_encoded_and_all_is_the_same(cache: CachedEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = cache.encoder.encode(PROMPTS, references())
    first = cache.encode(PROMPTS, references())
    assert len(list(cache.folder.rglob("*.safetensors"))) == 2  # the third is the second
    second = again(cache)
    monkeypatch.setattr(second.encoder.model.model, "forward", lambda **_: pytest.fail("encoded again"))
    for made, stored, wanted in zip(first, second.encode(PROMPTS, references()), plain, strict=True):
        assert torch.equal(made.text, stored.text)
        assert made.layout == stored.layout == wanted.layout
        torch.testing.assert_close(stored.text, wanted.text, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("change", ["prompt", "pixels", "weights", "template", "dtype"])
def test_a_change_is_encoded_again(cache: CachedEncoder, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    cache.encode(PROMPTS, references())
    if change == "weights":
        with torch.no_grad():
            next(cache.encoder.model.parameters()).add_(1e-3)
    elif change == "template":
        monkeypatch.setattr(templates, "USER", "<|im_start|>user\n{} <|im_end|>\n<|im_start|>assistant\n")
    changed = CachedEncoder(cache.encoder, cache.folder, torch.float16 if change == "dtype" else cache.dtype)
    changed.encode(["other", "words", "again"] if change == "prompt" else PROMPTS, references("blue" if change == "pixels" else "red"))
    assert changed.hits == (1 if change == "pixels" else 0)  # the prompt without references


def test_a_damaged_file_is_made_anew(cache: CachedEncoder) -> None:
    wanted = cache.encode(PROMPTS, references())
    for path in cache.folder.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:40])
    mended = again(cache)
    assert all(torch.equal(a.text, b.text) for a, b in zip(mended.encode(PROMPTS, references()), wanted, strict=True))
    assert mended.hits == 0
