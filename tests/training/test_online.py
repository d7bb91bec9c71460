"""Encoding while training: the same samples and noise as with stored latents and hidden states, the same numbers to rounding, and exact resume."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from qi2.core.errors import Interrupted, QI2Error
from qi2.core.publish import verify
from qi2.core.reporter import NullReporter, Reporter
from qi2.core.rng import numpy_rng
from qi2.data.shards import Row, ShardWriter
from qi2.data.world.captions import captions
from qi2.data.world.defects import encode_png
from qi2.data.world.edits import sample_edit
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.mmdit.config import PhaseConfig, StageConfig
from qi2.mmdit.train import PhaseInputs, train_phase
from qi2.models.mmdit import MMDiT
from qi2.models.vae import VAE
from qi2.recipe import Recipe
from qi2.training.config import AlignmentConfig, EncodeConfig, OptimizerConfig
from qi2.training.data_plan import PlanSettings
from qi2.training.encode import encode
from qi2.training.encoded import EncodedSet
from qi2.training.joined import JoinedSet, open_set
from qi2.training.mixture import Mixture, Part, add_noise, supervised_losses
from qi2.training.online import OnlineSet
from qi2.training.share import WHOLE, Share
from tests.conftest import SmallWorld
from tests.stopping import Stopping

SETTINGS = PlanSettings([64], [8], 0.5)
NAMES = ("datasets", "vlm", "vae", "stored", "online")


@dataclass
class Both:
    """A run's folder with the same data encoded either way, and the shared models."""

    folder: Path
    world: SmallWorld

    @property
    def stored(self) -> Path:
        return self.folder / "stored"

    @property
    def online(self) -> Path:
        return self.folder / "online"


@pytest.fixture(scope="module")
def both(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """16 pictures, half of them wide, and 8 edits of up to two references."""
    folder = tmp_path_factory.mktemp("online")
    for stage in range(1, 7):
        with ShardWriter(folder / "datasets" / f"s{stage}") as shards:
            for row in rows():
                shards.add(row)
    shutil.copytree(small_world.vlm, folder / "vlm")
    shutil.copytree(small_world.vae, folder / "vae")
    for name in ("stored", "online"):
        settings = EncodeConfig(sizes=[32, 64], captions=2, features=True, online=name == "online")
        encode(Recipe(encode=settings), folder / "datasets", folder / "vlm", folder / "vae", folder / name, NullReporter())
    return Both(folder, small_world)


def rows() -> list[Row]:
    found = []
    for i in range(16):
        draw = numpy_rng(0, "online", i)
        scene = sample_scene(draw, "two")
        picture = render(scene, 64) if i % 2 else render(scene, 128).crop((0, 32, 128, 96))
        found.append(Row(f"t{i}", encode_png(picture), "png", tuple(captions(scene, draw, 2)), kind="two"))
    for i in range(8):
        edit = sample_edit(numpy_rng(0, "online/edit", i), "combine" if i % 2 else "recolor")
        references = tuple(f"e{i}-{k}" for k in range(len(edit.references)))
        found += [Row(name, encode_png(render(own, 64)), "png", (), task="reference") for name, own in zip(references, edit.references, strict=True)]
        found.append(Row(f"e{i}", encode_png(render(edit.target, 64)), "png", (edit.instruction,), task="ti2i", kind="edit", references=references))
    return found


def part(data: EncodedSet, step: int, share: Share = WHOLE) -> Part:
    return Mixture(data, 6, SETTINGS, 0, "test").part(step, 0.2, share)


def losses(data: EncodedSet, world: SmallWorld, step: int) -> torch.Tensor:
    own = part(data, step)
    return supervised_losses(MMDiT.load(world.model), data, own, add_noise(own, 0.0, 1.0, 0, "noise", torch.device("cpu"))).detach()


def train(both: Both, encoded: Path, out: Path, reporter: Reporter | None = None) -> dict[str, torch.Tensor]:
    stages = [StageConfig(stage=6, sizes=[32, 64], steps=6, ti2i_share=0.5)]
    aligned = AlignmentConfig(weight=0.3, width=16)
    phase = PhaseConfig(stages, batch_size=4, alignment=aligned, optimizer=OptimizerConfig(lr=1e-3, warmup=1), ema=0.5)
    inputs = PhaseInputs(encoded, both.world.model, out.parent / f"{out.name}.checkpoints", both.world.vae)
    train_phase(Recipe(sft=phase), "sft", inputs, out, reporter or NullReporter())
    return load_file(out / "model.safetensors")


def test_a_training_sees_the_same_samples_whose_numbers_differ_by_rounding(both: Both) -> None:
    stored, online = EncodedSet(both.stored), open_set(both.online)
    assert (both.stored / "rows.parquet").read_bytes() == (both.online / "rows.parquet").read_bytes()
    assert not list(both.online.glob("*.safetensors"))
    equal = total = 0
    for step in range(3):
        one, two = part(stored, step), part(online, step)
        assert [(s.row, s.prompt, s.task) for s in one.samples] == [(s.row, s.prompt, s.task) for s in two.samples]
        assert one.drop == two.drop
        assert one.numbers.tolist() == two.numbers.tolist()
        for a, b in zip(one.samples, two.samples, strict=True):
            assert b.encoded is not None
            pairs = [(a.target, b.target), *zip(a.references, b.references, strict=True), (stored.prompts[a.prompt].text, b.encoded.text)]
            assert stored.prompts[a.prompt].layout == b.encoded.layout
            for x, y in pairs:
                torch.testing.assert_close(x, y, atol=2e-3, rtol=2e-3)
                equal, total = equal + int((x == y).sum()), total + x.numel()
        torch.testing.assert_close(losses(stored, both.world, step), losses(online, both.world, step), rtol=1e-3, atol=1e-4)
    assert equal / total > 0.95


def test_every_share_of_a_batch_has_the_samples_of_the_whole(both: Both) -> None:
    data = open_set(both.online)
    whole, parts = part(data, 1), [part(data, 1, Share(rank, 2)) for rank in range(2)]
    for a, b in zip(whole.samples, [s for own in parts for s in own.samples], strict=True):
        assert (a.row, a.prompt) == (b.row, b.prompt)
        torch.testing.assert_close(a.target, b.target, atol=2e-3, rtol=2e-3)


def test_a_training_that_encodes_ends_near_one_that_reads_and_resumes_exactly(both: Both, tmp_path: Path) -> None:
    read, whole = train(both, both.stored, tmp_path / "read"), train(both, both.online, tmp_path / "whole")
    assert max(float((read[name] - whole[name]).abs().max()) for name in read) < 2e-3
    with pytest.raises(Interrupted):
        train(both, both.online, tmp_path / "stopped", Stopping(3))
    train(both, both.online, tmp_path / "stopped")
    assert verify(tmp_path / "stopped") == verify(tmp_path / "whole")


def test_a_checkpoint_of_stored_numbers_is_refused(both: Both, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(both, both.stored, tmp_path / "out", Stopping(2))
    with pytest.raises(QI2Error, match="data.s6.data: .* then, .* now"):
        train(both, both.online, tmp_path / "out")


def test_features_are_those_that_would_be_stored(both: Both) -> None:
    stored, online = EncodedSet(both.stored, features=True), open_set(both.online, features=True)
    for a, b in zip(part(stored, 0).features, part(online, 0).features, strict=True):
        assert a.shape[1:] in ((4, 4), (2, 6), (2, 8))
        torch.testing.assert_close(a, b, atol=2e-3, rtol=2e-3)


def test_accepted_samples_join_a_set_that_encodes(both: Both) -> None:
    stored, online = JoinedSet(both.stored, both.stored, 2), JoinedSet(both.online, both.stored, 2)
    assert online.online
    chosen, draws = [1, len(online.rows) - 1, 0, len(online.rows) // 2], range(4)
    made = [data.samples(chosen, 64, [numpy_rng(0, "x", k) for k in draws]) for data in (stored, online)]
    for a, b in zip(*made, strict=True):
        assert (a.row, a.prompt) == (b.row, b.prompt)
        torch.testing.assert_close(a.target, b.target, atol=2e-3, rtol=2e-3)
    conditions = [data.condition(own, [False, True, False, False]) for data, own in zip((stored, online), made, strict=True)]
    torch.testing.assert_close(conditions[0].text, conditions[1].text, atol=2e-3, rtol=2e-3)


def test_hidden_states_are_kept_where_a_folder_is_given_for_them(both: Both, tmp_path: Path) -> None:
    settings = EncodeConfig(sizes=[64], captions=1, online=True, cache=str(tmp_path / "kept"))
    encode(Recipe(encode=settings), both.folder / "datasets", both.folder / "vlm", both.folder / "vae", tmp_path / "encoded", NullReporter())
    data: Any = open_set(tmp_path / "encoded")
    first, again = part(data, 0), part(data, 0)
    assert data.prompts.encoder.hits == len({s.prompt for s in first.samples})
    assert all(torch.equal(a.encoded.text, b.encoded.text) for a, b in zip(first.samples, again.samples, strict=True))


@pytest.mark.parametrize("changed", ["vae", "datasets"])
def test_what_is_not_what_the_folder_was_made_with_is_refused(both: Both, tmp_path: Path, changed: str) -> None:
    for name in NAMES:
        (tmp_path / name).symlink_to(both.folder / name)
    shutil.copytree(both.online, tmp_path / "own")
    (tmp_path / changed).unlink()
    if changed == "vae":
        vae = VAE.load(both.folder / "vae")
        vae.latent_mean[0] += 1
        vae.save(tmp_path / "vae")
    else:
        with ShardWriter(tmp_path / "datasets" / "s1") as shards:
            shards.add(rows()[0])
    with pytest.raises(QI2Error, match="another vae than" if changed == "vae" else "which is missing or another now"):
        OnlineSet(tmp_path / "own")


def test_what_reads_stored_numbers_alone_says_so(both: Both) -> None:
    with pytest.raises(QI2Error, match="encode.online=false"):
        EncodedSet(both.online)
