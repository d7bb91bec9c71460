"""A phase aligned to vision features: what the loss is, that it resumes exactly and in several processes, and that its projector stays behind."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from qi2.core.errors import Interrupted, QI2Error
from qi2.core.publish import verify
from qi2.core.reporter import FileReporter, NullReporter, Reporter
from qi2.mmdit.config import PhaseConfig, StageConfig
from qi2.mmdit.module import MMDiTModule
from qi2.mmdit.train import PhaseInputs, train_phase
from qi2.models.config import MMDiTConfig
from qi2.models.mmdit import MMDiT
from qi2.recipe import Recipe
from qi2.training.config import AlignmentConfig, OptimizerConfig
from qi2.training.encoded import EncodedSet
from qi2.training.mixture import add_noise, aligned_losses, supervised_losses
from tests.stopping import Stopping

WEIGHTS = "model.safetensors"


def recipe(**alignment: Any) -> Recipe:
    stages = [StageConfig(stage=6, sizes=[64], steps=5, ti2i_share=0.5)]
    settings = AlignmentConfig(**({"weight": 0.5, "width": 24} | alignment))
    return Recipe(sft=PhaseConfig(stages, batch_size=4, alignment=settings, optimizer=OptimizerConfig(lr=1e-2, warmup=1), ema=0.8))


def train(cfg: Recipe, world: Any, out: Path, reporter: Reporter | None = None) -> dict[str, torch.Tensor]:
    train_phase(cfg, "sft", PhaseInputs(world.encoded, world.model, out.parent / f"{out.name}.checkpoints"), out, reporter or NullReporter())
    return load_file(out / WEIGHTS)


def test_the_projector_is_left_behind_and_the_model_is_another_than_without_it(small_world: Any, tmp_path: Path) -> None:
    plain, aligned = train(recipe(weight=0.0), small_world, tmp_path / "plain"), train(recipe(), small_world, tmp_path / "aligned")
    assert plain.keys() == aligned.keys() == load_file(small_world.model / WEIGHTS).keys()
    assert any(not torch.equal(plain[name], aligned[name]) for name in plain)
    saved = torch.load(next((tmp_path / "aligned.checkpoints").iterdir()) / "state.ckpt", weights_only=True)["state_dict"]
    assert {name.split(".")[0] for name in saved} == {"model", "aligner", "average"}


@pytest.mark.parametrize("at", [1, 4])
def test_an_aligned_phase_that_was_stopped_publishes_what_an_undisturbed_one_does(small_world: Any, tmp_path: Path, at: int) -> None:
    train(recipe(), small_world, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(recipe(), small_world, tmp_path / "stopped", Stopping(at))
    train(recipe(), small_world, tmp_path / "stopped")
    assert verify(tmp_path / "stopped") == verify(tmp_path / "whole")


@pytest.mark.parametrize("attention", ["block_causal", "full"])
def test_the_loss_compares_each_target_token_with_the_feature_of_its_own_place(small_world: Any, attention: str) -> None:
    data, width = EncodedSet(small_world.encoded, features=True), MMDiT.load(small_world.model).config.context_width
    config = MMDiTConfig(layers=2, width=32, heads=2, context_width=width, rope_axes=[4, 6, 6], attention=attention)
    phase = recipe().sft
    module = MMDiTModule(MMDiT(config), data, phase, "sft", 0)
    part = module.batch(0)
    assert module.aligner is not None
    part.samples[0].target, feature = part.samples[0].target[:, :2], part.samples[0].features
    assert feature is not None
    part.samples[0].features = feature[:, :2]  # a target of another shape than the others'
    noised = add_noise(part, 0.0, 1.0, 0, "x", torch.device("cpu"))
    seen: list[torch.Tensor] = []
    module.model.blocks[0].register_forward_hook(lambda own, given, made: seen.append(made[0]))
    losses, apart = aligned_losses(module.model, module.aligner, data, part, noised)
    torch.testing.assert_close(losses, supervised_losses(module.model, data, part, noised))
    hidden = seen[1] if attention == "block_causal" else None
    if hidden is not None:
        first = module.aligner(hidden.flatten(0, 1)[:8])
        torch.testing.assert_close(apart[0], 1 - F.cosine_similarity(first, feature[:, :2].flatten(1).T, dim=-1).mean())
    for i in range(len(part.samples)):
        alone = aligned_losses(module.model, module.aligner, data, part.only([i]), add_noise(part.only([i]), 0.0, 1.0, 0, "x", torch.device("cpu")))
        torch.testing.assert_close(alone[1][0], apart[i])


def test_data_without_features_and_blocks_that_are_not_there_are_refused(small_world: Any, tmp_path: Path) -> None:
    with pytest.raises(QI2Error, match="alignment.block is 3, but the model has 2 blocks"):
        train(recipe(block=3), small_world, tmp_path / "out")
    (tmp_path / "encoded").mkdir()
    for file in small_world.encoded.iterdir():
        if not file.name.startswith("features"):
            (tmp_path / "encoded" / file.name).symlink_to(file)
    with pytest.raises(QI2Error, match=r"encode.features=true and run stage `encode` again"):
        train(recipe(), replace(small_world, encoded=tmp_path / "encoded"), tmp_path / "out")


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_align_as_one_does_though_one_may_have_no_references(small_world: Any, tmp_path: Path, strategy: str) -> None:
    alone = train(recipe(), small_world, tmp_path / "alone")
    command = [sys.executable, __file__, str(small_world.encoded), str(small_world.model), str(tmp_path / "both"), strategy]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    both = load_file(tmp_path / "both" / WEIGHTS)
    assert alone.keys() == both.keys()
    assert max(float((alone[name] - both[name]).abs().max()) for name in alone) < 1e-5
    assert json.loads((tmp_path / "both" / "metrics.json").read_text())["sft/steps"] == 5


if __name__ == "__main__":
    encoded, model, out, strategy = sys.argv[1:]
    cfg = recipe()
    cfg.engine = replace(cfg.engine, devices=2, strategy=strategy, precision="32")
    inputs = PhaseInputs(Path(encoded), Path(model), Path(out).parent / "both.checkpoints")
    train_phase(cfg, "sft", inputs, Path(out), FileReporter(Path(out).parent / "events"))
