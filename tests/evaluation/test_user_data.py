"""A user's own images: evaluation reads held-out captions with CLIP between two anchors, and claims no exact accuracy."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.reporter import NullReporter
from qi2.data.config import DataConfig
from qi2.data.ingest import ingest
from qi2.data.world.captions import captions
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.evaluation.evaluate import evaluate, evaluate_models
from qi2.evaluation.report import build_report
from qi2.standins.clip import build_clip, clip_tokenizer, save_clip
from qi2.standins.filters_config import ClipConfig
from tests.evaluation.untrained import Recipe, build_run


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Twelve captioned images, one of them broken, half of them held out."""
    folder, rng = tmp_path_factory.mktemp("mine"), np.random.default_rng(0)
    for index in range(12):
        scene = sample_scene(rng, "two", split="any")
        render(scene, 96).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(captions(scene, rng, 1)[0])
    (folder / "0.png").write_bytes((folder / "0.png").read_bytes()[:300])
    Image.new("RGB", (80, 120), "teal").save(folder / "plain.jpg")
    return Recipe(data=DataConfig(source=str(folder), heldout_fraction=0.7, workers=0))


@pytest.fixture(scope="module")
def run(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_run(tmp_path_factory.mktemp("runs") / "test", ("sft", "rlhf", "distill"))
    ingest(recipe, folder / "raw", NullReporter())
    config = ClipConfig(width=16, layers=1, heads=2, projection=16, image_size=32)
    tokenizer = clip_tokenizer(str(folder / "standins" / "vlm"), config.max_tokens)
    save_clip(build_clip(config, tokenizer), tokenizer, config, folder / "standins" / "clip")
    return folder


def test_own_images_get_clip_figures_between_anchors_and_no_accuracy(recipe: Recipe, run: Path, tmp_path: Path) -> None:
    figures = evaluate(recipe, run, run / "evaluate", NullReporter())
    assert {"t2i/clip/sft", "t2i/clip/distill", "t2i/clip_images", "t2i/clip_mismatched", "rl/clip_gain", "vae/psnr_photo"} <= set(figures)
    assert not [name for name in figures if "accuracy" in name or "edit" in name or name == "vae/ceiling"]
    build_report(recipe, run, tmp_path / "report")
    text = (tmp_path / "report" / "index.html").read_text()
    assert "No exact checker knows your images" in text
    assert "prompts fully right" not in text


def test_unreadable_and_uncaptioned_held_out_images_are_left_out(recipe: Recipe, run: Path) -> None:
    results = json.loads((run / "evaluate" / "results.json").read_text())
    assert 3 <= results["suite"]["t2i_n"] <= 10
    assert all(item["prompt"] for item in results["t2i"]["items"])


def test_own_images_cannot_be_evaluated_without_the_raw_folder(recipe: Recipe, run: Path, tmp_path: Path) -> None:
    with pytest.raises(QI2Error, match="raw folder"):
        evaluate_models(recipe, {"sft": run / "sft"}, run / "vae", run / "standins", tmp_path / "out", NullReporter())


def test_too_few_held_out_images_say_which_setting_to_raise(recipe: Recipe, run: Path, tmp_path: Path) -> None:
    none = replace(recipe, data=replace(recipe.data, heldout_fraction=0.0))
    ingest(none, tmp_path / "raw", NullReporter())
    with pytest.raises(QI2Error, match="data.heldout_fraction"):
        evaluate_models(none, {"sft": run / "sft"}, run / "vae", run / "standins", tmp_path / "out", NullReporter(), tmp_path / "raw")
