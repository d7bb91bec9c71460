"""A plan's figures are those of the code: parameters, work and kept tensors; and it says what does not fit and what does."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from qi2.cli import main
from qi2.config import load
from qi2.core.errors import QI2Error
from qi2.models.config import MMDiTConfig
from qi2.models.mmdit import MMDiT
from qi2.models.sequence import EncodedPrompt, collate
from qi2.models.vae_config import VAEArchitecture
from qi2.plan.cards import card
from qi2.plan.config import PlanConfig
from qi2.plan.estimate import estimate
from qi2.plan.measure import Meter, Shape, parameters, pass_of_mmdit
from qi2.plan.memory import memory, micro_batch, nearest_fit, usable
from qi2.plan.stages import jobs
from qi2.recipe import Recipe, scale_layers

CONF = Path(__file__).resolve().parents[2] / "conf"
SMALL = MMDiTConfig(layers=5, width=64, heads=2, context_width=32, rope_axes=[16, 8, 8])
EDIT = Shape(text=20, references=1, side=128)


def report() -> Recipe:
    return load(Recipe, scale_layers(CONF, "report"))


@pytest.fixture
def meter() -> Meter:
    return Meter(SMALL, VAEArchitecture(), "fp32")


def test_the_report_scale_has_the_open_models_parameters() -> None:
    assert parameters(lambda: MMDiT(report().mmdit)) == 7_115_124_736


def real_pass(model: MMDiT) -> tuple[int, int]:
    """Matrix products of the forward and of the whole pass, by torch's own counter, with numbers in the tensors."""
    side = EDIT.side // 16
    with FlopCounterMode(display=False) as forward:
        condition = collate([EncodedPrompt(torch.randn(EDIT.text, SMALL.context_width), [None, EDIT.text])], [[torch.randn(64, side, side)]])
        velocity = model(torch.randn(1, 64, side, side), torch.rand(1), model.encode_condition(condition))
    with FlopCounterMode(display=False) as backward:
        velocity.square().mean().backward()
    products = [sum(n for kernel, n in counter.get_flop_counts()["Global"].items() if str(kernel).endswith("mm")) for counter in (forward, backward)]
    return products[0], sum(products)


def test_planned_matrix_products_are_those_of_a_real_pass(meter: Meter) -> None:
    work = meter.mmdit(EDIT, recompute=False)
    forward, whole = real_pass(MMDiT(SMALL))
    assert work.condition.matmul + work.forward.matmul == forward
    assert work.training.matmul == whole
    assert work.training.matmul == pytest.approx(3 * forward, rel=0.02)


def test_matrix_products_are_two_per_weight_and_token(meter: Meter) -> None:
    model, shape = MMDiT(SMALL), EDIT
    target = (shape.side // 16) ** 2
    weights = {name: m.weight.numel() for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    blocks = sum(n for name, n in weights.items() if name.startswith("blocks."))
    unread = sum(n for name, n in weights.items() if name.startswith("blocks.4.")) - weights["blocks.4.attention.to_k"] - weights["blocks.4.attention.to_v"]
    per_condition = blocks - unread
    once = sum(n for name, n in weights.items() if name.startswith(("time_in", "modulation")))
    outside = shape.text * (weights["txt_in.in_layer"] + weights["txt_in.out_layer"]) + 2 * target * weights["img_in"] + target * weights["proj_out"]
    by_hand = 2 * (blocks * target + per_condition * (shape.text + target) + outside + 2 * once + weights["norm_out"])
    work = meter.mmdit(shape, recompute=False)
    assert work.condition.matmul + work.forward.matmul == by_hand


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_planned_activations_are_the_tensors_that_a_real_pass_keeps(recompute: bool, dtype: str) -> None:
    planned = Meter(SMALL, VAEArchitecture(), dtype).mmdit(EDIT, recompute)
    real = pass_of_mmdit(SMALL, EDIT, dtype, recompute, nullcontext())
    assert planned.saved == pytest.approx(real.saved, rel=0.1)
    assert planned.training.total == pytest.approx(real.training.total, rel=0.01)


def test_recomputing_blocks_keeps_less_and_works_more(meter: Meter) -> None:
    whole, recomputed = meter.mmdit(EDIT, recompute=False), meter.mmdit(EDIT, recompute=True)
    assert recomputed.saved < whole.saved / 4
    assert 1.2 * whole.training.total < recomputed.training.total < 4 / 3 * whole.training.total


def test_sharding_divides_what_its_stage_says() -> None:
    plan = PlanConfig(gpus=8, sharding="ddp")
    job = next(job for job in jobs(report(), plan) if job.stage == "pretrain 1")
    by_stage = {sharding: memory(job, replace(plan, sharding=sharding), 0) for sharding in ("ddp", "zero1", "zero2", "zero3")}
    assert by_stage["ddp"].optimizer == pytest.approx(12 * job.parameters / 1e9)
    assert by_stage["zero1"].optimizer == by_stage["ddp"].optimizer / 8
    assert by_stage["zero2"].gradients == by_stage["zero1"].gradients / 8
    assert by_stage["ddp"].weights / 8 < by_stage["zero3"].weights < by_stage["zero2"].weights / 7 + 1


def test_what_does_not_fit_names_the_nearest_that_does() -> None:
    plan, kind = PlanConfig(gpus=64, sharding="ddp", checkpointing="none"), card("H200")
    largest = next(job for job in jobs(report(), plan) if job.stage == "sft 6" and job.side == 2048)
    assert micro_batch(largest, plan, kind) == 0
    assert nearest_fit(largest, plan, kind).startswith("fits with zero1 and block checkpointing: ")
    better = replace(plan, sharding="zero1", checkpointing="block")
    micro = micro_batch(largest, better, kind)
    assert micro and memory(largest, better, micro).total <= usable(kind, plan) < memory(largest, better, micro + 1).total
    assert "on any number of them" in nearest_fit(largest, plan, card("cpu"))


def test_a_plan_of_tiny_runs_and_is_written_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "plan.json"
    words = ["plan", "--scale", "tiny", "--conf-folder", str(CONF), "--gpus", "2", "--kind", "rtx 4090", "--json", str(out), "--conf", "sft.batch_size=8"]
    assert main([*words, "--sharding", "fsdp"]) == 0
    assert "Assumptions" in capsys.readouterr().out
    rows = json.loads(out.read_text())["rows"]
    assert {row["stage"].split()[0] for row in rows} == {"vae", "pretrain", "continual", "sft", "rlhf", "distill"}
    sft = next(row for row in rows if row["stage"] == "sft 6")
    assert sft["batch"] == 8
    work = sft["flops"]["matmul"] + sft["flops"]["attention"]
    assert sft["seconds"] == pytest.approx(sft["batch"] / 2 * work / (165.2e12 * 0.4))
    assert sft["days"] * 86400 == pytest.approx(sft["seconds"] * sft["steps"])


def test_table2_batches_are_the_reports() -> None:
    found = {(job.stage, job.side): job.batch for job in jobs(report(), PlanConfig(batches="table2"))}
    assert [found["pretrain 1", 256], found["pretrain 3", 512]] == [32768, 16384]
    assert [found["sft 6", side] for side in (512, 1024, 2048)] == [16384, 8192, 4096]


def test_wrong_names_are_refused_with_the_right_ones() -> None:
    with pytest.raises(QI2Error, match="did you mean H200"):
        card("H20")
    with pytest.raises(QI2Error, match="report.*tiny"):
        load(Recipe, scale_layers(CONF, "tinny"))
    with pytest.raises(QI2Error, match="ddp, zero1"):
        estimate(report(), PlanConfig(sharding="zero9"))
