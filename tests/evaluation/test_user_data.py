"""A user's own images: evaluation reads held-out captions with CLIP between two anchors, and claims no exact accuracy."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.reporter import NullReporter
from qi2.data.config import DataConfig
from qi2.data.ingest import ingest
from qi2.data.world.captions import captions
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.enhancer.request import Rewrite
from qi2.evaluation.bootstrap import Bootstrap, Figure
from qi2.evaluation.enhanced_user import rules
from qi2.evaluation.evaluate import evaluate, evaluate_models
from qi2.evaluation.report import build_report
from qi2.models.condition import ConditionEncoder
from qi2.rewards.config import RewardArchitecture
from qi2.rewards.heads import RewardModel
from qi2.standins.clip import build_clip, clip_tokenizer, save_clip
from qi2.standins.filters_config import ClipConfig
from tests.evaluation.untrained import Recipe, build_enhancer, build_run


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
    build_enhancer(folder)
    encoder = ConditionEncoder.load(folder / "standins" / "vlm")
    reward = RewardModel(RewardArchitecture("alignment", size=64, width=32, layers=1, heads=2), encoder.model.model.visual, encoder.width)
    torch.nn.init.normal_(reward.head.score.weight)
    reward.save(folder / "rewards" / "alignment")
    return folder


@pytest.fixture(scope="module")
def figures(recipe: Recipe, run: Path) -> dict[str, Figure]:
    """Of the run, which then holds its evaluation."""
    return evaluate(recipe, run, run / "evaluate", NullReporter())


def test_own_images_get_clip_figures_between_anchors_and_no_accuracy(recipe: Recipe, run: Path, figures: dict[str, Figure], tmp_path: Path) -> None:
    assert {"t2i/clip/sft", "t2i/clip/distill", "t2i/clip_images", "t2i/clip_mismatched", "rl/clip_gain", "vae/psnr_photo"} <= set(figures)
    assert not [name for name in figures if "accuracy" in name or "edit" in name or name == "vae/ceiling"]
    build_report(recipe, run, tmp_path / "report")
    text = (tmp_path / "report" / "index.html").read_text()
    assert "No exact checker knows your images" in text
    assert "prompts fully right" not in text
    assert "Alignment reward, what was asked" in text and "Gain of rewriting, CLIP" in text


@pytest.mark.usefixtures("figures")
def test_the_enhancer_is_judged_on_own_captions_by_clip_and_by_the_runs_reward(run: Path) -> None:
    figures = json.loads((run / "evaluate" / "results.json").read_text())["figures"]
    kept = json.loads((run / "evaluate" / "enhanced.json").read_text())["items"]["t2i"]
    for judge in ("clip_meant", "clip_asked", "alignment_meant", "alignment_asked"):
        for wording in ("full", "short", "sft", "rewritten", "full_rewritten"):
            assert figures[f"enhancer/t2i/{judge}/{wording}"]["value"] == pytest.approx(np.mean([row["scores"][wording][judge] for row in kept]))
        gain = figures[f"enhancer/t2i/{judge}_gain"]
        assert gain["value"] == 0.0 and gain["n"] == len(kept)  # an untrained enhancer falls back to every prompt
        assert figures[f"enhancer/t2i/{judge}_cost"]["low"] <= figures[f"enhancer/t2i/{judge}_cost"]["value"]
    changed = [row["prompts"]["short"] != row["prompts"]["full"] for row in kept]
    assert figures["enhancer/t2i/degraded"]["value"] == np.mean(changed) > 0 and figures["enhancer/t2i/usable"]["value"] == 0.0


def test_rules_read_what_the_enhancer_wrote_before_it_falls_back() -> None:
    sign, plain = 'a sign that says "OPEN"', "a red star"
    rewrites = [
        Rewrite(sign, 'a wooden sign that says "OPEN" on a wall', "add"),
        Rewrite(sign, 'a wooden sign that says "OPFN"', "add", "the text was changed"),
        Rewrite(plain, "красная звезда на стене", "add", "it is in another script"),
        Rewrite(plain, "", "", "the reply holds no prompt"),
    ]
    found = {name: (figure.value, figure.n) for name, figure in rules(rewrites, Bootstrap(0)).items()}
    assert found == {"usable": (0.25, 4), "texts_kept": (0.5, 2), "language_kept": (pytest.approx(2 / 3), 3)}
    assert set(rules(rewrites[3:], Bootstrap(0))) == {"usable"}


@pytest.mark.usefixtures("figures")
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
