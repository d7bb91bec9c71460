"""LoRA goes to diffusers and comes from there with the same numbers, trains alone, and merges exactly."""

import pytest
import torch
from test_mmdit_parity import CONFIG, SAMPLES, twins

from qi2.core.errors import QI2Error
from qi2.models.config import LoRAConfig
from qi2.models.lora import FILE, adapter_of, add_adapter, apply_adapter, merge, read_adapter, save_adapter
from qi2.models.sequence import collate

pytest.importorskip("peft")
LORA = LoRAConfig(rank=4, alpha=8.0, targets=["to_q", "to_out", "gate"])
SAMPLE, T = SAMPLES["one reference"], torch.tensor([0.6])


def velocity(model):
    return model(SAMPLE.x[None], T, model.encode_condition(collate([SAMPLE.prompt], [SAMPLE.references])))[0]


def randomise(model):
    torch.manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name:
                p.normal_(std=0.2)


def test_a_new_adapter_changes_nothing_and_alone_gets_gradients():
    ours, _ = twins()
    before = velocity(ours).detach()
    add_adapter(ours, LORA)
    torch.testing.assert_close(velocity(ours), before)
    velocity(ours).square().mean().backward()
    learned = {name for name, p in ours.named_parameters() if p.grad is not None}
    assert learned
    assert all("lora_" in name for name in learned)


def test_our_adapter_gives_the_same_in_diffusers(tmp_path):
    ours, theirs = twins()
    randomise(add_adapter(ours, LORA))
    save_adapter(adapter_of(ours), tmp_path, CONFIG.layers)
    theirs.load_lora_adapter(tmp_path, prefix="transformer", weight_name=FILE)
    with torch.no_grad():
        wanted = SAMPLE.theirs(theirs, T)
        torch.testing.assert_close(velocity(ours), wanted, rtol=1e-4, atol=2e-5)
        torch.testing.assert_close(velocity(merge(ours)), wanted, rtol=1e-4, atol=2e-5)
    assert not any("lora" in name for name in ours.state_dict())


def test_an_adapter_of_diffusers_gives_the_same_here_and_comes_back_bit_by_bit(tmp_path):
    from peft import LoraConfig
    from safetensors.torch import load_file

    ours, theirs = twins()
    theirs.add_adapter(LoraConfig(r=3, lora_alpha=6, target_modules=["to_k", "to_v", "proj"]))
    randomise(theirs)
    theirs.save_lora_adapter(tmp_path / "theirs")
    adapter = read_adapter(tmp_path / "theirs", CONFIG.layers)
    apply_adapter(ours, adapter)
    with torch.no_grad():
        torch.testing.assert_close(velocity(ours), SAMPLE.theirs(theirs, T), rtol=1e-4, atol=2e-5)
    again = load_file(save_adapter(adapter_of(ours), tmp_path / "ours", CONFIG.layers))
    first = load_file(next((tmp_path / "theirs").glob("*.safetensors")))
    assert {name.removeprefix("transformer.") for name in again} == {name.removeprefix("transformer.") for name in first}
    assert all(torch.equal(again[f"transformer.{name.removeprefix('transformer.')}"], tensor) for name, tensor in first.items())


def test_what_does_not_belong_is_refused(tmp_path):
    ours, _ = twins()
    with pytest.raises(QI2Error, match="no linear layer of the blocks"):
        add_adapter(ours, LoRAConfig(rank=2, targets=["to_qkv"]))
    randomise(add_adapter(ours, LORA))
    save_adapter(adapter_of(ours), tmp_path, CONFIG.layers)
    with pytest.raises(QI2Error, match="belongs to another model"):
        read_adapter(tmp_path, 1)
    with pytest.raises(QI2Error, match="no LoRA at"):
        read_adapter(tmp_path / "nowhere", 1)
