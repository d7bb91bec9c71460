"""Small curation models, really trained and saved like the line's own, and raw folders made for a test."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from qi2.core.reporter import NullReporter
from qi2.core.rng import numpy_rng
from qi2.data.curate_config import CurateConfig, StageThresholds
from qi2.data.shards import Row, ShardWriter, Sidecar
from qi2.data.world.captions import captions
from qi2.data.world.defects import encode_png
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import TINY_KINDS, Scene
from qi2.standins.config import StandinsConfig
from qi2.standins.filters_config import ClipConfig, NSFWConfig


@dataclass
class Recipe:
    """What curation and its models read of the recipe."""

    seed: int = 0
    standins: StandinsConfig = field(default_factory=StandinsConfig)
    curate: CurateConfig = field(default_factory=CurateConfig)


def distinct_scenes(n: int, kinds: Sequence[str] = TINY_KINDS, split: str = "train") -> list[Scene]:
    """``n`` scenes whose pictures all differ."""
    rng = numpy_rng(0, f"tests/scenes/{split}/{'-'.join(kinds)}")
    found: dict[bytes, Scene] = {}
    while len(found) < n:
        scene = sample_scene(rng, kinds[len(found) % len(kinds)], split)
        found.setdefault(render(scene, 64).tobytes(), scene)
    return list(found.values())


def scene_row(name: str, scene: Scene, split: str = "train") -> Row:
    """A T2I row of a scene at 64 px."""
    texts = tuple(captions(scene, numpy_rng(0, f"tests/captions/{name}"), 2))
    return Row(name, encode_png(render(scene, 64)), "png", texts, kind=scene.kind, split=split, scene=scene.to_json())


def write_raw(folder: Path, rows: Sequence[Row], shard_rows: int = 64) -> Path:
    """Write rows as a raw folder and return it."""
    with ShardWriter(folder, shard_rows) as writer:
        for row in rows:
            writer.add(row)
    return folder


@pytest.fixture(scope="session")
def standins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tokenizer (``vlm``), ``clip`` and ``nsfw``, trained for a few seconds on 400 pictures."""
    from qi2.models.tokenizer import train_tokenizer
    from qi2.standins.clip import train_clip
    from qi2.standins.nsfw import train_nsfw

    folder = tmp_path_factory.mktemp("models")
    known = [scene_row(f"s{index}", scene) for index, scene in enumerate(distinct_scenes(400))]
    noise = numpy_rng(0, "tests/noise").integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)
    extra = [Row(f"n{index}", encode_png(Image.fromarray(one)), "png", (), kind="noise") for index, one in enumerate(noise)]
    write_raw(folder / "raw", [*known, *extra])
    rows = Sidecar.load(folder / "raw").table
    train_tokenizer([text for texts in rows["captions"] for text in texts], 400).save_pretrained(folder / "standins" / "vlm")
    small = StandinsConfig(clip=ClipConfig(width=32, layers=1, heads=2, steps=60, batch_size=48), nsfw=NSFWConfig(steps=80, images=300))
    recipe = Recipe(standins=small)
    train_clip(recipe, rows, folder / "raw", folder / "standins" / "vlm", folder / "standins" / "clip", NullReporter())
    train_nsfw(recipe, rows, folder / "raw", folder / "standins" / "nsfw", NullReporter())
    return folder / "standins"


def lenient_config() -> CurateConfig:
    """Six stages at 64 px that refuse only what is plainly bad, in this process; later stages add edits and synthetic rows."""
    first = StageThresholds(
        sides=[32], edits=False, synthetic=False, exact_duplicates=True, near_duplicates=True, max_nsfw=0.6, rotation="reject",
        min_entropy=0.2, max_entropy=7.5, min_clip=-1.0, min_tokens=2, max_tokens=60, survival=[0.1, 1.0],
    )  # fmt: skip
    edits, synthetic = StageThresholds(edits=True), StageThresholds(synthetic=True, sides=[64])
    later = {"stage4": StageThresholds(min_quality=40), "stage5": StageThresholds(), "stage6": StageThresholds()}
    return CurateConfig(workers=0, batch_size=32, examples=2, stage1=first, stage2=edits, stage3=synthetic, **later)


class Held:
    """A table's byte column as filters ask for it, from memory."""

    def __init__(self, column: pd.Series) -> None:
        self.column, self.given = column, column.notna().to_numpy()

    def take(self, rows: np.ndarray) -> np.ndarray:
        return np.frombuffer(b"".join(self.column.iloc[rows]), np.uint8).reshape(len(rows), -1 if len(rows) else 0)


@pytest.fixture
def lenient() -> CurateConfig:
    """See ``lenient_config``."""
    return lenient_config()


def blank_table(n: int, **columns: object) -> pd.DataFrame:
    """Score columns of ``n`` faultless T2I rows, with the given columns replaced."""
    good = {
        "id": [f"r{k}" for k in range(n)], "role": "image", "split": "train", "kind": "one", "caption_kind": "general", "source": "world", "broken": None,
        "short_side": 64, "long_side": 64, "aspect": 1.0, "exact_duplicate_of": None, "near_duplicate_of": None, "semantic_duplicate_of": None, "nsfw": 0.0,
        "orientation": 1, "upright": np.nan, "entropy": 2.0, "difference_entropy": 2.0, "clip": 0.9, "tokens_min": 8, "tokens_max": 12,
        "opt_out": False, "sharpness": 30.0, "aesthetic": 50.0, "jpeg_quality": 100, "blockiness": 0.0,
        "region": None, "pair_change": 0.5, "pair_outside": 0.0, "pair_similarity": 0.9,
    }  # fmt: skip
    table = pd.DataFrame({**good, **columns}, index=range(n))
    if "references" not in table:
        table["references"] = [[] for _ in range(n)]
    return table
