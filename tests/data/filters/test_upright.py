"""Content orientation by a classifier: read by its classes' names, rejected where a stage asks for it, and never turned."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.pretrained import POINTER
from qi2.core.reporter import NullReporter
from qi2.data.curate import curate
from qi2.data.curate_config import CurateConfig
from qi2.data.filters import upright
from qi2.data.filters.models import ModelPaths
from qi2.data.shards import Row
from qi2.data.world.defects import encode_png
from tests.data.conftest import Recipe, write_raw

NAMES = ("rotated_90", "upright", "270_degrees", "180")


def _pictures(count: int, seed: int) -> list[np.ndarray]:
    """uint8 (64, 64, 3): squares of random colours that grow dark towards the ground."""
    squares = np.random.default_rng(seed).integers(120, 256, (count, 8, 8, 3)).repeat(8, 1).repeat(8, 2)
    return list((squares * np.linspace(1, 0.1, 64)[None, :, None, None]).astype(np.uint8))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ViT that learned which way up such pictures are; its classes stand in no order."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    folder = tmp_path_factory.mktemp("orientation")
    torch.manual_seed(0)
    tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    model = ViTForImageClassification(ViTConfig(**tower, id2label=dict(enumerate(NAMES)), label2id={name: k for k, name in enumerate(NAMES)}))
    processor = ViTImageProcessor(size={"height": 32, "width": 32})
    quarters = upright.label_degrees(dict(enumerate(NAMES))) // 90
    images = [Image.fromarray(np.rot90(picture, quarters[k % 4])) for k, picture in enumerate(_pictures(64, 1))]
    pixels, labels = processor(images=images, return_tensors="pt")["pixel_values"], torch.arange(64) % 4
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(pixel_values=pixels).logits, labels).backward()
        optimizer.step()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_degrees_and_the_probability_of_upright_are_found_by_the_classes_names(classifier: Path) -> None:
    pictures = _pictures(4, 2)
    scores = upright.OrientationScorer(ModelPaths("", "", "", orientation=str(classifier))).score(
        [Image.fromarray(np.rot90(picture, k)) for k, picture in enumerate(pictures)], [[]] * 4
    )
    assert scores["content_rotation"].tolist() == [0, 90, 180, 270]
    assert scores["upright"][0] > 0.5 > scores["upright"][1:].max()


@pytest.mark.parametrize("names", [("0", "90", "180", "270"), ("Upright", "rot-90", "180 degrees", "270°"), ("0_deg", "-270", "rotated_-180", "-90")])
def test_usual_names_of_quarter_turns_are_understood(names: tuple[str, ...]) -> None:
    assert upright.label_degrees(dict(enumerate(names))).tolist() == [0, 90, 180, 270]


@pytest.mark.parametrize("names", [("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"), ("0", "90", "180"), ("0", "90", "90", "270"), ("cat", "90", "180", "270")])
def test_other_classes_are_refused_by_name(names: tuple[str, ...]) -> None:
    with pytest.raises(QI2Error, match=f"standins.orientation.path.*{names[1]}.*upright"):
        upright.label_degrees(dict(enumerate(names)))


def test_what_lies_on_its_side_is_rejected_where_asked_and_nothing_is_turned(classifier: Path, standins: Path, lenient: CurateConfig, tmp_path: Path) -> None:
    shutil.copytree(standins, tmp_path / "standins")
    (tmp_path / "standins" / "orientation").mkdir()
    (tmp_path / "standins" / "orientation" / POINTER).write_text(json.dumps({"path": str(classifier)}))
    turned = {f"u{k}": encode_png(Image.fromarray(np.rot90(picture, k))) for k, picture in enumerate(_pictures(8, 3))}
    raw = write_raw(tmp_path / "raw", [Row(name, data, "png", ("a picture of squares",), "user") for name, data in turned.items()])
    config = replace(lenient, stage2=replace(lenient.stage2, min_upright=0.5))
    curate(Recipe(curate=config), raw, tmp_path / "standins", tmp_path / "curated", NullReporter())
    table = pd.read_parquet(tmp_path / "curated" / "scores.parquet").set_index("id")
    assert not (table["reason_stage1"] == "upright").any()
    left = table[table["reason_stage1"].isna()]
    assert len(left) >= 6
    assert (left["reason_stage2"] == "upright").tolist() == [int(name[1:]) % 4 != 0 for name in left.index]
    assert table["sha256"].to_dict() == {name: hashlib.sha256(data).hexdigest() for name, data in turned.items()}
    assert any((tmp_path / "curated" / "rejected").glob("upright_*.png"))


def test_without_a_classifier_the_threshold_rejects_nothing() -> None:
    table = pd.DataFrame({"upright": [np.nan, np.nan]})
    assert not upright.FILTER.rejects(table, replace(CurateConfig().stage1, min_upright=0.9)).any()
