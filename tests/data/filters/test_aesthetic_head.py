"""The learned aesthetic score: a head on CLIP's image vectors, whose scores are its own or missing, never colourfulness."""

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from qi2.core.errors import QI2Error
from qi2.core.pretrained import POINTER
from qi2.core.reporter import NullReporter
from qi2.data.curate import curate, model_paths
from qi2.data.curate_config import CurateConfig, StageThresholds, thresholds
from qi2.data.executors import local
from qi2.data.filters import aesthetic, clip
from qi2.data.filters.models import ModelPaths
from qi2.data.filters.registry import load_scorers
from qi2.data.shard_scores import score_rows
from qi2.data.shards import Row, Sidecar
from qi2.data.stages import roles
from qi2.data.world.defects import encode_png
from qi2.data.world.render import render
from qi2.standins.train import train_standins
from tests.data.conftest import Recipe, distinct_scenes, scene_row, write_raw

NAMES = ("layers.0.", "layers.2.", "layers.10.")  # dropout stands between them; by the alphabet 10 would come before 2


def _save(path: Path, width: int) -> torch.nn.Sequential:
    """A head of three Linear layers on ``width`` numbers, written as LAION names its tensors, with scores about 5."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(*(torch.nn.Linear(*pair) for pair in pairwise((width, 16, 8, 1))))
    torch.nn.init.constant_(layers[-1].bias, 5.0)
    save_file({f"{name}{part}": tensor for name, layer in zip(NAMES, layers, strict=True) for part, tensor in layer.state_dict().items()}, path)
    return layers


@pytest.fixture
def with_head(standins: Path, tmp_path: Path) -> Path:
    """The stand-ins' folder with a head on the stand-in CLIP's vectors, as the stage writes it."""
    shutil.copytree(standins, tmp_path / "standins")
    _save(tmp_path / "head.safetensors", 64)
    (tmp_path / "standins" / "aesthetic").mkdir()
    (tmp_path / "standins" / "aesthetic" / POINTER).write_text(json.dumps({"path": str(tmp_path / "head.safetensors")}))
    return tmp_path / "standins"


def test_the_head_scores_the_vectors_that_clip_computed_once(standins: Path, tmp_path: Path) -> None:
    layers = _save(tmp_path / "head.safetensors", 64)
    scorer = clip.ClipScorer(ModelPaths("", str(standins / "clip"), "", aesthetic=str(tmp_path / "head.safetensors")))
    passes: list[int] = []
    scorer.model.vision_model.register_forward_hook(lambda *_: passes.append(1))
    images = [render(scene, 64) for scene in distinct_scenes(5)]
    for captions in ([["a red circle"]] * 5, [[]] * 5):
        scores = scorer.score(images, captions)
        with torch.inference_mode():
            wanted = layers(scorer.embed_images(images))[:, 0].numpy()
        np.testing.assert_allclose(scores["aesthetic"], wanted, rtol=1e-5)
    assert len(passes) == 4  # one per call here, one per score


def test_rows_that_the_head_does_not_see_are_blank_and_not_rejected(with_head: Path, lenient: CurateConfig, tmp_path: Path) -> None:
    first, second = (encode_png(render(scene, 64)) for scene in distinct_scenes(32)[-2:])
    edit = [Row("ref", first, "png", (), task="reference"), Row("edit", second, "png", ("make it blue",), task="ti2i", references=("ref",))]
    raw = write_raw(tmp_path / "raw", [*(scene_row(f"w{k}", scene) for k, scene in enumerate(distinct_scenes(30))), *edit])
    rows = Sidecar.load(raw).table
    rows = rows.assign(role=roles(rows))
    scores = score_rows(rows, raw, model_paths(with_head, lenient), lenient, tmp_path / "work", local(0))[0].set_index(rows["id"])["aesthetic"]
    assert scores[["ref", "edit"]].isna().all()
    assert scores.drop(["ref", "edit"]).between(1, 10).all()
    assert not aesthetic.FILTER.rejects(scores[["ref", "edit"]].to_frame(), StageThresholds(min_aesthetic=5.0)).any()


def test_the_card_names_the_head(with_head: Path, lenient: CurateConfig, tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", [scene_row(f"w{k}", scene) for k, scene in enumerate(distinct_scenes(8))])
    curate(Recipe(curate=lenient), raw, with_head, tmp_path / "curated", NullReporter())
    assert f"| aesthetic | `{tmp_path / 'head.safetensors'}` |" in (tmp_path / "curated" / "README.md").read_text()


def test_a_pickled_head_is_refused_with_the_conversion(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1, 64)}, tmp_path / "head.pth")
    with pytest.raises(QI2Error, match="head.pth.*save_file.*weights_only=True"):
        aesthetic.AestheticHead(str(tmp_path / "head.pth"))
    (tmp_path / "head.pth").rename(tmp_path / "head.safetensors")
    with pytest.raises(QI2Error, match="cannot be read as safetensors"):
        aesthetic.AestheticHead(str(tmp_path / "head.safetensors"))


def test_one_linear_layer_is_a_head_and_anything_but_a_chain_to_one_number_is_not(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    save_file({"weight": torch.full((1, 4), 2.0), "bias": torch.ones(1)}, path)
    assert aesthetic.AestheticHead(str(path)).score(torch.eye(4)).tolist() == [3.0] * 4
    gap = {"a.0.weight": torch.zeros(8, 4), "a.1.weight": torch.zeros(1, 7)}
    for tensors in ({"weight": torch.zeros(2, 4)}, gap, {"weight": torch.zeros(1, 4), "logit_scale": torch.zeros(1)}, {"bias": torch.zeros(1)}):
        save_file(tensors, path)
        with pytest.raises(QI2Error, match="no chain of Linear layers"):
            aesthetic.AestheticHead(str(path))


def test_a_head_for_another_clip_or_without_one_is_refused(standins: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "head.safetensors")
    _save(tmp_path / "head.safetensors", 768)
    scorer = clip.ClipScorer(ModelPaths("", str(standins / "clip"), "", aesthetic=path))
    with pytest.raises(QI2Error, match="768 numbers.*have 64"):
        scorer.score([render(distinct_scenes(1)[0], 64)], [[]])
    with pytest.raises(QI2Error, match="standins.clip.path"):
        load_scorers(ModelPaths("", "", "", aesthetic=path), "cpu")
    recipe = Recipe()
    recipe.standins.aesthetic.path = path
    with pytest.raises(QI2Error, match="standins.clip.path"):
        train_standins(recipe, tmp_path / "raw", tmp_path / "out", NullReporter())


def test_a_threshold_on_the_scale_of_colourfulness_is_refused_with_a_head(with_head: Path, lenient: CurateConfig, tmp_path: Path) -> None:
    for config in (CurateConfig(), replace(lenient, stage5=StageThresholds(min_aesthetic=20.0))):
        with pytest.raises(QI2Error, match=r"curate.stage[45].min_aesthetic=(8|20) .* 1 to 10"):
            curate(Recipe(curate=config), tmp_path / "raw", with_head, tmp_path / "out", NullReporter())
        aesthetic.check_thresholds(thresholds(config), "")
    aesthetic.check_thresholds(thresholds(replace(lenient, stage4=StageThresholds(min_aesthetic=5.0))), "head.safetensors")
