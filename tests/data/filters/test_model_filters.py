"""The filters with a model load it through transformers like a real one, and mean what they say."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.pretrained import POINTER, model_source
from qi2.core.reporter import NullReporter
from qi2.core.rng import numpy_rng
from qi2.data.curate import model_paths
from qi2.data.curate_config import StageThresholds
from qi2.data.filters import clip, nsfw, token_length
from qi2.data.filters.models import ModelPaths
from qi2.data.world.captions import captions
from qi2.data.world.defects import hazard_image
from qi2.data.world.render import render
from qi2.standins.train import train_standins
from tests.data.conftest import Recipe, blank_table, distinct_scenes, scene_row, write_raw


@pytest.fixture(scope="module")
def paths(standins: Path) -> ModelPaths:
    return ModelPaths(str(standins / "vlm"), str(standins / "clip"), str(standins / "nsfw"))


def test_clip_scores_own_captions_above_those_of_other_pictures(paths: ModelPaths) -> None:
    scenes = distinct_scenes(460)[-60:]
    images = [render(scene, 64) for scene in scenes]
    own = [captions(scene, numpy_rng(0, "own", k), 2) for k, scene in enumerate(scenes)]
    scorer = clip.ClipScorer(paths)
    right, wrong = scorer.score(images, own)["clip"], scorer.score(images, own[7:] + own[:7])["clip"]
    assert np.mean(right > wrong) > 0.9


def test_clip_order_of_captions_and_batch_do_not_matter(paths: ModelPaths) -> None:
    scorer = clip.ClipScorer(paths)
    images = [render(scene, 64) for scene in distinct_scenes(3)]
    texts = [["a red circle"], [], ["a white background with a blue star", "two cyan circles on grey"]]
    together = scorer.score(images, texts)["clip"]
    assert np.isnan(together[1])
    assert together[0] == pytest.approx(scorer.score(images[:1], texts[:1])["clip"][0], abs=1e-5)


def test_clip_features_are_unit_vectors_from_tensor_or_output_object(paths: ModelPaths) -> None:
    import torch
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    features = torch.randn(2, 5)
    assert torch.allclose(clip.unit(features), clip.unit(BaseModelOutputWithPooling(pooler_output=features)))
    assert torch.allclose(clip.unit(features).norm(dim=-1), torch.ones(2))


def test_nsfw_finds_the_striped_pictures(paths: ModelPaths) -> None:
    safe = [render(scene, 64) for scene in distinct_scenes(40)]
    unsafe = [hazard_image(numpy_rng(0, "tests/hazard", k), 64, image) for k, image in enumerate(safe)]
    scores = nsfw.NSFWScorer(paths).score(safe + unsafe, [])["nsfw"]
    assert scores[:40].max() < scores[40:].min()


def test_nsfw_label_is_read_by_name_not_by_index(paths: ModelPaths, tmp_path: Path) -> None:
    import shutil

    swapped = tmp_path / "swapped"
    shutil.copytree(paths.nsfw, swapped)
    config = json.loads((swapped / "config.json").read_text())
    config |= {"id2label": {"0": "NSFW", "1": "normal"}, "label2id": {"NSFW": 0, "normal": 1}}
    (swapped / "config.json").write_text(json.dumps(config))
    image = [render(distinct_scenes(1)[0], 64)]
    ours, theirs = (nsfw.NSFWScorer(ModelPaths("", "", str(path))).score(image, [])["nsfw"][0] for path in (paths.nsfw, swapped))
    assert theirs == pytest.approx(1 - ours, abs=1e-5)


def test_an_unknown_label_names_those_that_exist() -> None:
    with pytest.raises(QI2Error, match="normal.*porn.*curate.nsfw_label"):
        nsfw.label_index({0: "normal", 1: "porn"}, "nsfw")


def test_a_missing_model_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(QI2Error, match="standins.clip.path"):
        clip.ClipScorer(ModelPaths("", str(tmp_path / "none"), ""))


def test_a_pointer_leads_to_the_pretrained_model(tmp_path: Path) -> None:
    assert model_source(tmp_path) == str(tmp_path)
    (tmp_path / POINTER).write_text(json.dumps({"path": "somewhere/else"}))
    assert model_source(tmp_path) == "somewhere/else"


def test_configured_paths_reach_the_filters_and_models_that_are_not_given_are_left_out(tmp_path: Path) -> None:
    raw, recipe = write_raw(tmp_path / "raw", [scene_row("a", distinct_scenes(1)[0])]), Recipe()
    for name in ("vlm", "clip", "nsfw"):
        getattr(recipe.standins, name).path = f"real/{name}"
    train_standins(recipe, raw, tmp_path / "three", NullReporter())
    assert model_paths(tmp_path / "three", recipe.curate) == ModelPaths("real/vlm", "real/clip", "real/nsfw")
    recipe.standins.aesthetic.path, recipe.standins.orientation.path = "real/head.safetensors", "real/orientation"
    train_standins(recipe, raw, tmp_path / "all", NullReporter())
    assert model_paths(tmp_path / "all", recipe.curate) == ModelPaths("real/vlm", "real/clip", "real/nsfw", "real/head.safetensors", "real/orientation")


def test_token_length_counts_with_the_condition_encoders_tokenizer(paths: ModelPaths) -> None:
    from transformers import AutoTokenizer

    scorer = token_length.TokenScorer(paths)
    texts = ["a red circle", "a white background with a blue star at the top left"]
    scores = scorer.score([Image.new("RGB", (8, 8))] * 2, [texts, []])
    lengths = [len(AutoTokenizer.from_pretrained(paths.tokenizer)(text)["input_ids"]) for text in texts]
    assert (scores["tokens_min"][0], scores["tokens_max"][0]) == (min(lengths), max(lengths))
    assert np.isnan(scores["tokens_min"][1])


def test_token_length_refuses_short_long_and_missing_captions() -> None:
    table = blank_table(4, tokens_min=[3, 2, 3, np.nan], tokens_max=[9, 9, 11, np.nan])
    assert token_length.FILTER.rejects(table, StageThresholds(min_tokens=3, max_tokens=10)).tolist() == [False, True, True, True]


def test_scores_beyond_the_threshold_are_refused() -> None:
    table = blank_table(3, clip=[0.4, 0.6, np.nan], nsfw=[0.4, 0.6, np.nan])
    assert clip.FILTER.rejects(table, StageThresholds(min_clip=0.5)).tolist() == [True, False, False]
    assert nsfw.FILTER.rejects(table, StageThresholds(max_nsfw=0.5)).tolist() == [False, True, False]


@pytest.fixture(scope="module")
def siglip(paths: ModelPaths, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SigLIP of random weights with the stand-in's tokenizer."""
    from transformers import AutoTokenizer, SiglipConfig, SiglipImageProcessor, SiglipModel

    folder = tmp_path_factory.mktemp("siglip")
    tokenizer = AutoTokenizer.from_pretrained(paths.clip)
    tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**tower, "vocab_size": len(tokenizer), "max_position_embeddings": 64, "projection_size": 32}
    SiglipModel(SiglipConfig(text_config=text, vision_config={**tower, "image_size": 32, "patch_size": 16})).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_siglip_reads_texts_padded_to_its_full_length(siglip: Path) -> None:
    import torch
    from transformers import AutoTokenizer, SiglipModel

    scorer, texts = clip.ClipScorer(ModelPaths("", str(siglip), "")), ["a red circle", "a blue star at the top left"]
    ids = AutoTokenizer.from_pretrained(siglip)(texts, padding="max_length", max_length=64, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        wanted = clip.unit(SiglipModel.from_pretrained(siglip).eval().get_text_features(input_ids=ids))
        assert torch.allclose(scorer.embed_texts(texts), wanted, atol=1e-5)
    scores = scorer.score([render(scene, 64) for scene in distinct_scenes(2)], [texts, []])
    assert np.isfinite(scores["clip"][0]) and np.isnan(scores["clip"][1])


def test_a_model_that_is_no_dual_encoder_of_fixed_size_is_refused_by_its_type(tmp_path: Path) -> None:
    from transformers import Siglip2Config

    Siglip2Config().save_pretrained(tmp_path)
    with pytest.raises(QI2Error, match="siglip2.*NaFlex"):
        clip.ClipScorer(ModelPaths("", str(tmp_path), ""))
