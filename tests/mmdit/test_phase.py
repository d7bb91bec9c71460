"""A phase starts from where it is told to, hands on what it does not train, and trains adapters alone where asked."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from qi2.core.errors import Interrupted, QI2Error
from qi2.core.publish import verify
from qi2.core.reporter import NullReporter, Reporter
from qi2.mmdit.config import PhaseConfig, StageConfig
from qi2.mmdit.train import PhaseInputs, start_model, train_phase
from qi2.models.config import LoRAConfig, MMDiTConfig
from qi2.models.lora import apply_adapter, merge, read_adapter
from qi2.models.mmdit import MMDiT
from qi2.models.mmdit_diffusers import mmdit_to_diffusers
from qi2.recipe import Recipe
from qi2.training.config import OptimizerConfig
from tests.stopping import Stopping


def recipe(**phase: Any) -> Recipe:
    stages = [StageConfig(stage=6, sizes=[64], steps=3)]
    settings = {"stages": stages, "batch_size": 4, "optimizer": OptimizerConfig(lr=1e-2, warmup=1)}
    return Recipe(sft=PhaseConfig(**(settings | phase)))


def train(cfg: Recipe, world: Any, out: Path, start: Path | None = None) -> MMDiT:
    train_phase(cfg, "sft", PhaseInputs(world.encoded, start), out, NullReporter())
    return MMDiT.load(out)


def equal(a: MMDiT, b: MMDiT) -> bool:
    return all(torch.equal(x.float(), y.float()) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_phase_without_stages_hands_on_the_weights_of_a_diffusers_folder(small_world: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    width = MMDiT.load(small_world.model).config.context_width
    model = MMDiT(MMDiTConfig(layers=2, width=32, heads=2, context_width=width, rope_axes=[4, 6, 6]))
    mmdit_to_diffusers(model, tmp_path / "transformer")
    assert equal(train(recipe(stages=[], start=str(tmp_path / "transformer")), small_world, tmp_path / "out", small_world.model), model)
    assert not equal(train(recipe(start=str(tmp_path / "transformer")), small_world, tmp_path / "trained"), model)


def test_a_start_from_elsewhere_computes_as_the_recipe_says_and_goes_back_with_its_own_config(small_world: Any, tmp_path: Path) -> None:
    width = MMDiT.load(small_world.model).config.context_width
    mmdit_to_diffusers(MMDiT(MMDiTConfig(layers=1, width=32, heads=2, context_width=width, rope_axes=[4, 6, 6])), tmp_path / "theirs")
    written = tmp_path / "theirs" / "config.json"
    written.write_text(json.dumps(json.loads(written.read_text()) | {"_name_or_path": "theirs"}))
    model = start_model(MMDiTConfig(context_width=width, checkpointing=True, compile=True, kernel="dense"), tmp_path / "theirs", 0)
    assert (model.config.checkpointing, model.config.compile, model.config.kernel) == (True, True, "dense")
    assert all(block.compiled for block in model.blocks)
    mmdit_to_diffusers(model, tmp_path / "back")
    assert json.loads((tmp_path / "back" / "config.json").read_text()) == json.loads(written.read_text())


def test_weights_of_another_condition_encoder_are_refused(small_world: Any, tmp_path: Path) -> None:
    MMDiT(MMDiTConfig(layers=1, width=32, heads=2, context_width=12, rope_axes=[4, 6, 6])).save(tmp_path / "other")
    with pytest.raises(QI2Error, match="reads hidden states of width 12"):
        train(recipe(start=str(tmp_path / "other")), small_world, tmp_path / "out")


def test_adapters_train_alone_and_are_kept_beside_the_merged_weights(small_world: Any, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    lora = LoRAConfig(rank=2, alpha=4.0, targets=["to_q", "gate"])
    base, merged = MMDiT.load(small_world.model), train(recipe(lora=lora), small_world, tmp_path / "out", small_world.model)
    for (name, before), after in zip(base.state_dict().items(), merged.state_dict().values(), strict=True):
        trained = name.endswith(("to_q.weight", "gate.weight"))
        assert torch.equal(before, after) != trained, name
        if trained:
            assert int(torch.linalg.matrix_rank((after - before).double(), rtol=1e-4)) <= 2
    adapter = read_adapter(tmp_path / "out" / "lora", 2)
    assert (adapter.config.rank, adapter.config.alpha) == (2, 4.0)
    again = merge(apply_adapter(base, adapter))
    for a, b in zip(again.state_dict().values(), merged.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)
    more = train(recipe(lora=replace(lora, path=str(tmp_path / "out" / "lora"))), small_world, tmp_path / "more", small_world.model)
    assert not equal(more, merged)


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("at", [2, 3, 6])
def test_a_phase_stopped_anywhere_publishes_what_an_undisturbed_one_does(small_world: Any, tmp_path: Path, at: int, mixed: bool) -> None:
    stages = [StageConfig(stage=6, sizes=[64], steps=3, ti2i_share=0.3), StageConfig(stage=6, sizes=[64], steps=4, ti2i_share=0.5)]
    cfg = recipe(stages=stages, ema=0.8, mixed=mixed)

    def run(name: str, reporter: Reporter) -> dict[str, str]:
        train_phase(
            cfg, "sft", PhaseInputs(small_world.encoded, small_world.model, tmp_path / f"{name}.checkpoints", small_world.vae), tmp_path / name, reporter
        )
        return verify(tmp_path / name)

    whole = run("whole", NullReporter())
    with pytest.raises(Interrupted, match=f"after step {at} of 7"):
        run("stopped", Stopping(at))
    assert run("stopped", NullReporter()) == whole
    assert {"curves.csv", "images/samples_fixed@7.png"} <= set(whole)


def test_a_checkpoint_of_other_data_is_refused(small_world: Any, tmp_path: Path) -> None:
    inputs = PhaseInputs(small_world.encoded, small_world.model, tmp_path / "checkpoints")
    with pytest.raises(Interrupted):
        train_phase(recipe(), "sft", inputs, tmp_path / "out", Stopping(1))
    shutil.copytree(small_world.encoded, tmp_path / "encoded")
    rows = pd.read_parquet(tmp_path / "encoded" / "rows.parquet")
    rows.iloc[:-1].to_parquet(tmp_path / "encoded" / "rows.parquet", index=False)
    with pytest.raises(QI2Error, match="data.s6.data: .* then, .* now"):
        train_phase(recipe(), "sft", replace(inputs, encoded=tmp_path / "encoded"), tmp_path / "out", NullReporter())
    assert list((tmp_path / "checkpoints").iterdir())
