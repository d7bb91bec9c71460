"""Accepted data beside the curated set: nothing changes without them, and with them every row keeps its own latents and prompts."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
import torch

from qi2.core.errors import QI2Error
from qi2.core.publish import publish, verify
from qi2.core.reporter import NullReporter
from qi2.core.rng import numpy_rng
from qi2.data.accepted_config import AcceptedConfig
from qi2.data.shards import Row, ShardWriter
from qi2.data.world.captions import captions
from qi2.data.world.defects import encode_png
from qi2.data.world.edits import sample_edit
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.training import accepted
from qi2.training.config import EncodeConfig
from qi2.training.encoded import EncodedSet
from qi2.training.joined import JoinedSet, training_set
from tests.conftest import SmallWorld


@dataclass
class Recipe:
    """What the stage reads."""

    accepted: AcceptedConfig = field(default_factory=AcceptedConfig)
    encode: EncodeConfig = field(default_factory=lambda: EncodeConfig(sizes=[64], edit_sizes=[64], kinds=["one"]))


def shards(folder: Path, split: str = "train") -> Path:
    with publish(folder) as staging, ShardWriter(staging) as writer:
        for i in range(5):
            rng = numpy_rng(1, "accepted", i)
            scene = sample_scene(rng, "count")
            writer.add(Row(f"a{i}", encode_png(render(scene, 64)), "png", tuple(captions(scene, rng)), "accepted", kind="count", split=split))
        edit = sample_edit(numpy_rng(1, "edit"), "recolor")
        writer.add(Row("e-ref0", encode_png(render(edit.references[0], 64)), "png", (), "accepted", "reference", "reference"))
        writer.add(Row("e", encode_png(render(edit.target, 64)), "png", (edit.instruction,), "accepted", "ti2i", "recolor", ("e-ref0",)))
    return folder


@pytest.fixture(scope="module")
def added(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("accepted")
    recipe = Recipe(AcceptedConfig(str(shards(folder / "given"))))
    accepted.keep(recipe, small_world.vlm, small_world.vae, folder / "out", NullReporter())  # type: ignore[arg-type]
    return folder / "out"


def test_without_accepted_data_the_stage_is_empty_and_loads_no_model(tmp_path: Path) -> None:
    figures = accepted.keep(Recipe(), tmp_path / "no vlm", tmp_path / "no vae", tmp_path / "out", NullReporter())  # type: ignore[arg-type]
    assert figures == {"accepted/samples": 0.0}
    assert set(verify(tmp_path / "out")) == {"metrics.json"}


def test_without_accepted_data_training_reads_the_very_same_set(small_world: SmallWorld, tmp_path: Path) -> None:
    plain, joined = EncodedSet(small_world.encoded), training_set(small_world.encoded, tmp_path / "encoded", 3)
    assert type(joined) is EncodedSet
    assert joined.version == plain.version


def test_every_row_keeps_its_own_latents_and_prompt(small_world: SmallWorld, added: Path) -> None:
    one, two, both = EncodedSet(small_world.encoded), EncodedSet(added / "encoded"), JoinedSet(small_world.encoded, added / "encoded", 2)
    for row, name in enumerate(both.rows["id"]):
        source = one if row < len(one.rows) else two
        own = row if row < len(one.rows) else row - len(one.rows)
        got, wanted = (data.sample(k, 64, numpy_rng(0, "caption")) for data, k in ((both, row), (source, own)))
        assert torch.equal(got.target, wanted.target), name
        assert torch.equal(both.prompts[got.prompt].text, source.prompts[wanted.prompt].text), name
        assert all(torch.equal(a, b) for a, b in zip(got.references, wanted.references, strict=True))
        assert len(got.references) == (1 if got.task == "ti2i" else 0) or row < len(one.rows)


def test_accepted_rows_come_as_often_as_asked(small_world: SmallWorld, added: Path) -> None:
    one, both = EncodedSet(small_world.encoded), JoinedSet(small_world.encoded, added / "encoded", 3)
    before, after = one.plan_rows(6, [64], 0.3), both.plan_rows(6, [64], 0.3)
    assert len(after.index) == len(before.index) + 3 * 6
    assert after.version != before.version
    assert all(len(values) == len(after.index) for values in (after.task, after.kind, after.ready[64]))


def test_the_shards_are_kept_beside_what_was_encoded(added: Path) -> None:
    assert set(pd.read_parquet(added / "shards" / "sidecar.parquet")["id"]) == {"a0", "a1", "a2", "a3", "a4", "e-ref0", "e"}
    verify(added)


def test_heldout_rows_are_refused(small_world: SmallWorld, tmp_path: Path) -> None:
    recipe = Recipe(AcceptedConfig(str(shards(tmp_path / "given", "heldout"))))
    with pytest.raises(QI2Error, match="held-out data may not be trained on"):
        accepted.keep(recipe, small_world.vlm, small_world.vae, tmp_path / "out", NullReporter())  # type: ignore[arg-type]


def test_data_of_another_encoder_are_refused(small_world: SmallWorld, added: Path, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "other"
    shutil.copytree(added / "encoded", other)
    made = json.loads((other / "versions.json").read_text())
    (other / "versions.json").write_text(json.dumps(made | {"vae": "another"}))
    with pytest.raises(QI2Error, match="another vae"):
        JoinedSet(small_world.encoded, other)
