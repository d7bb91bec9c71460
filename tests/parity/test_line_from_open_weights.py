"""The line starts from a pipeline folder of diffusers, trains on, draws, and ships back what diffusers loads."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from published import encoder, pipeline

from qi2.config import load
from qi2.convert import convert
from qi2.core.reporter import NullReporter
from qi2.data.shards import Sidecar
from qi2.models.condition import ConditionEncoder
from qi2.models.mmdit import MMDiT
from qi2.models.mmdit_diffusers import load_mmdit
from qi2.models.sequence import collate
from qi2.models.vae import VAE
from qi2.models.vae_diffusers import load_vae
from qi2.pipeline import Pipeline
from qi2.recipe import Recipe

diffusers = pytest.importorskip("diffusers")
SMOKE = Path(__file__).parents[2] / "conf" / "scale" / "smoke.yaml"
FEW = [
    "data.world_images=120", "data.rich_images=0", "data.edit_pairs=48", "data.photo_crops=2", "data.heldout_images=4", "data.heldout_edits=4",
    "data.heldout_crops=2", "standins.clip.steps=2", "standins.clip.images=60", "standins.nsfw.steps=20", "standins.nsfw.images=60",
    "curate.stage1.max_nsfw=1.0", "curate.stage6.max_nsfw=1.0", "curate.stage1.survival=[0.0,1.0]", "curate.stage6.balance=null",
]  # fmt: skip


def stage(name: str, recipe: Recipe, runs: Path) -> None:
    """Run a stage of the line as its task does."""
    task = importlib.import_module(f"tasks.{name}")
    task.run(recipe, runs, runs / task.OUT, NullReporter())


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """The published folder, the runs folder after `continual`, and the overrides that a user gives."""
    folder: Path = tmp_path_factory.mktemp("line")
    runs, published = folder / "runs", folder / "Q"
    stage("ingest", load(Recipe, [SMOKE], FEW), runs)
    encoder(folder / "vlm", [text for texts in Sidecar.load(runs / "raw").table["captions"] for text in texts])
    pipeline(folder / "vlm", layers=3).save_pretrained(published)
    given = [f"standins.vlm.path={published}/text_encoder", f"vae.path={published}/vae", f"pretrain.start={published}/transformer"]
    given += [*FEW, "pretrain.stages=[]", "continual.stages=[]"]
    for name in ("vlm", "curate", "datasets", "vae", "encode", "pretrain", "continual"):
        stage(name, load(Recipe, [SMOKE], given), runs)
    return published, runs, given


def changed(runs: Path) -> list[str]:
    before, after = (MMDiT.load(runs / name).state_dict() for name in ("pretrain", "sft"))
    return [name for name, tensor in before.items() if not torch.equal(tensor, after[name])]


def test_the_networks_come_in_untouched_and_the_encoder_reads_with_its_own_tokenizer(line: tuple[Path, Path, list[str]]) -> None:
    published, runs, _ = line
    wanted = load_mmdit(published)
    assert all(torch.equal(tensor, wanted.state_dict()[name]) for name, tensor in MMDiT.load(runs / "continual").state_dict().items())
    theirs, ours = load_vae(published / "vae").state_dict(), VAE.load(runs / "vae").state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())
    assert len(ConditionEncoder.load(runs / "standins" / "vlm").encode(["a red circle"], [[]])[0].text) >= 3


@pytest.mark.parametrize("adapters", [[], ["sft.lora.rank=2"]], ids=["all weights", "adapters"])
def test_what_was_trained_draws_and_is_the_same_model_in_diffusers(line: tuple[Path, Path, list[str]], tmp_path: Path, adapters: list[str]) -> None:
    _, runs, given = line
    stage("sft", load(Recipe, [SMOKE], given + adapters), runs)
    names = changed(runs)
    assert names
    assert (runs / "sft" / "lora").is_dir() == bool(adapters)
    assert not adapters or all(".attention.to_" in name for name in names)
    pipe = Pipeline.load(runs)
    picture = pipe.generate(["a red circle"], seeds=[0], size=64, steps=2)[0]
    assert (picture.size, picture.mode) == ((64, 64), "RGBA")
    convert(runs, tmp_path / "Q")
    transformer = diffusers.QwenImage21Transformer2DModel.from_pretrained(tmp_path / "Q" / "transformer")
    diffusers.AutoencoderKLQwenImage21.from_pretrained(tmp_path / "Q" / "vae")
    assert len(ConditionEncoder.load(tmp_path / "Q" / "text_encoder").encode(["a red circle"], [[]])[0].text) >= 3
    compare(pipe, transformer)


@torch.no_grad()
def compare(pipe: Pipeline, transformer: Any) -> None:
    """The velocity of one noise under one prompt, by both."""
    prompt, noise, t = pipe.encoder.encode(["a red circle"], [[]])[0], torch.randn(1, 64, 4, 4), torch.tensor([0.5])
    mask = torch.tensor([[False] * len(prompt.text) + [True] * 4])
    theirs = transformer(noise.flatten(2).transpose(1, 2), prompt.text[None], t, [[(1, 4, 4)]], mask, return_dict=False)[0]
    ours = pipe.model(noise, t, pipe.model.encode_condition(collate([prompt], [[]])))
    torch.testing.assert_close(ours.flatten(2).transpose(1, 2), theirs[:, -16:], rtol=1e-3, atol=1e-4)
