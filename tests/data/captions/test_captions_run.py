"""Captioning through a real (tiny, random) Qwen3-VL that was saved as transformers does, and what a run leaves behind."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.publish import verify
from qi2.core.rng import numpy_rng
from qi2.data.captions.captioner import Answer, Captioner, QwenCaptioner, Request, TruthCaptioner, load_captioner
from qi2.data.captions.command import caption_command
from qi2.data.captions.config import CaptionConfig
from qi2.data.captions.rows import read_facts
from qi2.data.captions.run import caption
from qi2.data.captions.schemes import Task
from qi2.data.shards import Row, ShardWriter
from qi2.data.world.captions import captions
from qi2.data.world.defects import encode_png
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import KINDS
from qi2.standins.config import VLMConfig
from qi2.standins.vlm import build_vlm, save_vlm

TASK = Task("general", language="en", length="short")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("qwen")
    encoder = build_vlm(VLMConfig(width=32, layers=2, heads=2, vision_layers=1), ["a red circle on white", "no text"] * 5)
    for parameter in encoder.model.parameters():
        parameter.data.mul_(4)  # so far from uniform that answers follow from the picture and the prompt
    save_vlm(encoder, folder)
    return folder


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Eight scenes, one picture without a scene, one that cannot be decoded, one that opted out, and one planted defect."""
    with ShardWriter(tmp_path / "raw") as writer:
        for i, kind in enumerate(KINDS):
            scene = sample_scene(numpy_rng(0, "tests/run", i), kind, "any")
            writer.add(Row(f"s{i}", encode_png(render(scene, 64)), "png", tuple(captions(scene, numpy_rng(0, "c", i))), kind=kind, scene=scene.to_json()))
        writer.add(Row("photo", encode_png(picture(1, 96, 40)), "png", (), "photo", origin="https://example.org/oslo"))
        writer.add(Row("cut", encode_png(picture(2, 64, 64))[:99], "png", (), "user"))
        writer.add(Row("unwilling", encode_png(picture(3, 64, 64)), "png", ("mine",), "user", opt_out=True))
        writer.add(Row("turned", encode_png(render(scene, 64).rotate(90)), "png", ("x",), "defect", kind="defect_rotated", scene=scene.to_json()))
    return tmp_path / "raw"


def picture(seed: int, width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def requests() -> list[Request]:
    """Prompts of unlike length with pictures of unlike size, so that a batch needs padding."""
    prompts = ["a", "Describe this image in one short sentence.", "Write down all text. " * 4, "red circle"]
    sizes = [(64, 64), (96, 32), (160, 128), (32, 64)]
    return [Request(f"r{i}", TASK, prompt, image=picture(i, *size)) for i, (prompt, size) in enumerate(zip(prompts, sizes, strict=True))]


def small(model: Path, **changes: Any) -> CaptionConfig:
    """Few tokens, and prompts of a few words from an own folder of templates, because the tiny tokenizer spells most words."""
    prompts = {"general.short": "in {language}", "text.plain": "text", "knowledge": "in {language}: {facts}", "structured": "JSON"}
    folder = model.with_name("templates")
    folder.mkdir(exist_ok=True)
    for name, prompt in prompts.items():
        (folder / f"{name}.txt").write_text(prompt)
    settings: dict[str, Any] = {"schemes": ["general", "text"], "lengths": ["short"], "batch_size": 3, "max_tokens": 6, "retries": 0}
    return CaptionConfig(str(model), templates=str(folder), **(settings | changes))


CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}{% if c.type == 'text' %}{{ c.text }}{% else %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% endif %}{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)


@pytest.mark.parametrize("template", ["", CHAT])
def test_a_batch_is_answered_as_its_rows_alone(model: Path, template: str) -> None:
    captioner = QwenCaptioner.load(model, small(model))
    captioner.tokenizer.chat_template = template or None
    together = captioner.answer(requests())
    assert len({answer.text for answer in together}) > 1
    assert together == [captioner.answer([request])[0] for request in requests()]
    padded = captioner.model(**captioner.batch(requests()), use_cache=False).logits[:, -1]
    alone = torch.cat([captioner.model(**captioner.batch([request]), use_cache=False).logits[:, -1] for request in requests()])
    torch.testing.assert_close(padded, alone, rtol=1e-3, atol=1e-3)


def test_sampling_follows_its_seed_and_leaves_torch_alone(model: Path) -> None:
    captioner = QwenCaptioner.load(model, small(model, temperature=3.0))
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    answers = [captioner.answer(requests()[:1], seed)[0].text for seed in (1, 1, 2)]
    assert answers[0] == answers[1] != answers[2]
    assert torch.rand(1) == expected


def test_large_pictures_are_shown_smaller(model: Path) -> None:
    captioner = QwenCaptioner.load(model, small(model, max_pixels=64 * 64))
    grid = captioner.batch([Request("r", TASK, "a", image=picture(0, 512, 256))])["image_grid_thw"][0].tolist()
    assert grid[1] * grid[2] * 16 * 16 <= 64 * 64


def test_every_row_is_accounted_for(model: Path, raw: Path, tmp_path: Path) -> None:
    config = small(model, schemes=["general", "text", "knowledge", "structured"], max_tokens=2, retries=1)
    counts = caption(raw, load_captioner(config), config, tmp_path / "out")
    for scheme, rows in (("general", 11), ("text", 11), ("knowledge", 10), ("structured", 11)):  # of "cut" nothing is known
        assert counts[f"captions/{scheme}/in"] == rows
        assert sum(counts[f"captions/{scheme}/{status}"] for status in ("ok", "refused", "invalid", "unreadable")) == rows
    table = pd.read_parquet(tmp_path / "out" / "captions.parquet")
    cut = table[table["id"] == "cut"]
    assert set(cut["status"]) == {"unreadable"} and set(cut["attempts"]) == {0}
    assert cut["reason"].str.contains("cut in .* cannot be decoded").all()
    assert "unwilling" not in set(table["id"])
    failed = table[table["status"] == "invalid"]
    assert len(failed) and (failed["caption"] == "").all() and (failed["reason"] != "").all() and (failed["attempts"] == 2).all()
    assert set(verify(tmp_path / "out")) == {"captions.parquet", "metrics.json"}
    assert not (tmp_path / ".out.work").exists()


class Dying:
    """Another captioner, killed when it is asked for one greedy batch too many; counts the batches."""

    def __init__(self, inner: Captioner, batches: int) -> None:
        self.inner, self.left, self.done = inner, batches, 0
        self.identity, self.reads_pictures = inner.identity, inner.reads_pictures

    def answer(self, requests: Sequence[Request], seed: int | None = None) -> list[Answer]:
        if seed is None:
            if self.left == self.done:
                raise KeyboardInterrupt
            self.done += 1
        return self.inner.answer(requests, seed)


def test_a_killed_run_redoes_only_unfinished_and_torn_batches(model: Path, raw: Path, tmp_path: Path) -> None:
    config = small(model)
    caption(raw, QwenCaptioner.load(model, config), config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        caption(raw, Dying(QwenCaptioner.load(model, config), 5), config, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    parts = sorted((tmp_path / ".out.work").glob("*/part-*.jsonl"))
    assert len(parts) == 5
    parts[-1].write_bytes(parts[-1].read_bytes()[:-40])
    rest = Dying(QwenCaptioner.load(model, config), 99)
    caption(raw, rest, config, tmp_path / "out")
    assert rest.done == 4  # of eight batches, three were never begun and one was torn
    assert (tmp_path / "out" / "captions.parquet").read_bytes() == (tmp_path / "whole" / "captions.parquet").read_bytes()


@pytest.mark.parametrize("change", [{"max_tokens": 7}, {"seed": 1}, {"languages": ["de"]}])
def test_work_under_other_settings_is_not_taken_up(model: Path, raw: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(KeyboardInterrupt):
        caption(raw, Dying(TruthCaptioner(), 2), small(model), tmp_path / "out")
    other = Dying(TruthCaptioner(), 99)
    caption(raw, other, small(model, **change), tmp_path / "out")
    assert other.done == 6


def test_the_truth_as_captioner_is_measured_and_leaves_defects_out(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "facts.jsonl").write_text('{"id": "s0", "facts": "Painted in Oslo."}\n')
    printed = caption_command(raw, CaptionConfig("truth"), tmp_path / "out", tmp_path / "facts.jsonl", evaluate=True)
    table = pd.read_parquet(tmp_path / "out" / "captions.parquet")
    assert set(table["id"]) == {f"s{i}" for i in range(8)}
    knowledge = table[table["scheme"] == "knowledge"]
    assert knowledge["caption"].tolist()[0].endswith("Painted in Oslo.") and len(knowledge) == 1
    figures = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert figures["general/facts"]["value"] == figures["structured/exact"]["value"] == 1.0
    assert "general/facts" in printed


def test_scenes_without_words_are_left_out_of_exact_captions_and_measures(model: Path, raw: Path, tmp_path: Path) -> None:
    strange = {
        "page": '{"kind":"slide","size":[640,360],"blocks":[]}',
        "other": '{"kind":"one","objects":[{"shape":"heptagon","color":"red","row":0,"col":0}]}',
        "torn": '{"kind":',
    }
    with ShardWriter(tmp_path / "strange") as writer:
        for name, scene in {**strange, "known": '{"kind":"text","words":[{"text":"OK","row":0}]}'}.items():
            writer.add(Row(name, encode_png(picture(4, 64, 64)), "png", (), scene=scene))
    caption(tmp_path / "strange", TruthCaptioner(), CaptionConfig("truth", schemes=["text"]), tmp_path / "exact")
    assert pd.read_parquet(tmp_path / "exact" / "captions.parquet")["id"].tolist() == ["known"]
    config = small(model)
    counts = caption(tmp_path / "strange", load_captioner(config), config, tmp_path / "out", measure=True)
    assert counts["captions/text/in"] == 4
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["text/exact"]["pictures"] == 1


def test_one_caption_each_takes_one_length_and_language_per_row(raw: Path, tmp_path: Path) -> None:
    config = CaptionConfig("truth", schemes=["general"], languages=["en", "de", "ja"], one_each=True)
    caption(raw, TruthCaptioner(), config, tmp_path / "out")
    table = pd.read_parquet(tmp_path / "out" / "captions.parquet")
    assert sorted(table["id"]) == [f"s{i}" for i in range(8)]
    assert len(set(zip(table["language"], table["length"], strict=True))) > 2


def test_what_is_missing_is_said(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(QI2Error, match="captions.path is empty"):
        load_captioner(CaptionConfig())
    with pytest.raises(QI2Error, match="cannot load the captioner, a Qwen3-VL, from .*nowhere"):
        load_captioner(CaptionConfig(str(tmp_path / "nowhere")))
    with pytest.raises(QI2Error, match="none of the 1 ids of the facts"):
        caption(raw, TruthCaptioner(), CaptionConfig("truth"), tmp_path / "out", {"nobody": "x"})
    (tmp_path / "facts.jsonl").write_text('{"id": "s0", "facts": "x"}\n{"id": "s1"}\n')
    with pytest.raises(QI2Error, match='line 2 of .* has no text "id" and "facts"'):
        read_facts(tmp_path / "facts.jsonl")
