"""The sheets that training keeps are read back cell by cell, and what is wrong on them is a signal of a training prompt."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.reporter import NullReporter
from qi2.core.rng import numpy_rng
from qi2.data.shards import Row, ShardWriter, Sidecar
from qi2.data.world.captions import captions
from qi2.data.world.defects import encode_png
from qi2.data.world.edits import sample_edit
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.flywheel.collect.training import training_failures
from qi2.flywheel.store import SignalStore
from qi2.mmdit.config import StageConfig
from qi2.mmdit.preview import Preview, drawn, shown
from qi2.models.config import SamplerConfig
from qi2.models.mmdit import MMDiT
from qi2.models.vae import VAE
from qi2.recipe import Recipe
from qi2.training.config import EncodeConfig
from qi2.training.encode import encode
from qi2.training.encoded import EncodedSet

RECIPE = Recipe(encode=EncodeConfig(sizes=[64]))
STAGE = 6
RECIPE.sft.stages = [StageConfig(stage=STAGE, sizes=[64])]


@pytest.fixture(scope="module")
def runs(small_world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data sets of 10 scenes and 3 edits, encoded, and the sheet of an untrained model."""
    folder = tmp_path_factory.mktemp("runs")
    for stage in range(1, 7):
        with ShardWriter(folder / "datasets" / f"s{stage}") as shards:
            for k in range(10):
                rng = numpy_rng(0, "sheet/scene", k)
                scene = sample_scene(rng, ("one", "two", "count", "relation", "text")[k % 5])
                shards.add(Row(f"scene-{k}", encode_png(render(scene, 64)), "png", tuple(captions(scene, rng, 3)), kind=scene.kind, scene=scene.to_json()))
            for k in range(3):
                edit = sample_edit(numpy_rng(0, "sheet/edit", k), "recolor")
                shards.add(Row(f"source-{k}", encode_png(render(edit.references[0], 64)), "png", ("",), task="reference", kind="reference"))
                row = Row(f"edit-{k}", encode_png(render(edit.target, 64)), "png", (edit.instruction,), task="ti2i", kind="recolor")
                shards.add(replace(row, references=(f"source-{k}",), edit=edit.to_json()))
    encode(RECIPE, folder / "datasets", small_world.vlm, small_world.vae, folder / "encoded", NullReporter())
    preview = Preview(VAE.load(small_world.vae), EncodedSet(folder / "encoded"), STAGE, 64, SamplerConfig(), RECIPE.seed)
    (folder / "sft" / "images").mkdir(parents=True)
    preview(MMDiT.load(small_world.model)).save(folder / "sft" / "images" / "samples_fixed@12.png")
    Image.new("RGB", (8, 8)).save(folder / "sft" / "images" / "samples_fixed@9.png")
    return folder


def test_wrong_pictures_of_the_newest_sheet_are_signals_of_training_prompts(runs: Path, tmp_path: Path) -> None:
    store = SignalStore(tmp_path)
    found = training_failures(RECIPE, runs, "sft", store)
    assert len(found) == 8 and {signal.task for signal in found} == {"t2i", "ti2i"}  # an untrained model draws nothing right
    for signal in found:
        assert signal.source == "training" and signal.trainable and signal.truth and signal.provenance["step"] == 12
        assert store.picture(signal.picture).size == (64, 64) and bool(signal.references) == (signal.task == "ti2i")
    assert [one.to_json() for one in training_failures(RECIPE, runs, "sft", store)] == [one.to_json() for one in found]


def test_the_prompt_is_the_caption_that_was_drawn(runs: Path, tmp_path: Path) -> None:
    data = EncodedSet(runs / "encoded")
    samples = {data.rows["id"][sample.row]: sample for sample in shown(data, STAGE, 64, RECIPE.seed)}
    for signal in training_failures(RECIPE, runs, "sft", SignalStore(tmp_path)):
        sample = samples[signal.provenance["row"]]
        assert sample.prompt in data.rows["prompts_64"][sample.row] and signal.prompt


def test_a_sheet_of_right_pictures_gives_no_signal(runs: Path, tmp_path: Path) -> None:
    """The pictures that the data hold, in the model's place."""
    data, sheet = EncodedSet(runs / "encoded"), Image.open(runs / "sft" / "images" / "samples_fixed@12.png").convert("RGB")
    samples = shown(data, STAGE, 64, RECIPE.seed)
    side = Sidecar.load(runs / "datasets" / f"s{STAGE}")
    for column, sample in enumerate(samples):
        sheet.paste(side.image(str(data.rows["id"][sample.row])), (column * 64, sheet.height - 64))
    (tmp_path / "runs").mkdir()
    for name in ("datasets", "encoded"):
        (tmp_path / "runs" / name).symlink_to(runs / name)
    (tmp_path / "runs" / "sft" / "images").mkdir(parents=True)
    sheet.save(tmp_path / "runs" / "sft" / "images" / "samples_fixed@3.png")
    assert training_failures(RECIPE, tmp_path / "runs", "sft", SignalStore(tmp_path / "store")) == []
    assert [picture.tobytes() for picture in drawn(sheet, samples)] == [
        sheet.crop((k * 64, sheet.height - 64, k * 64 + 64, sheet.height)).tobytes() for k in range(8)
    ]


def test_a_phase_without_sheets_has_no_signals_and_a_foreign_sheet_is_refused(runs: Path, tmp_path: Path) -> None:
    assert training_failures(RECIPE, runs, "pretrain", SignalStore(tmp_path)) == []
    with pytest.raises(QI2Error, match="drawn from other data"):
        drawn(Image.new("RGB", (100, 64)), shown(EncodedSet(runs / "encoded"), STAGE, 64, RECIPE.seed))
