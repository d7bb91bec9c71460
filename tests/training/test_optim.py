"""Optimisers: which parameters decay, and which Muon takes."""

import pytest
import torch
from torch import nn

from qi2.core.errors import QI2Error
from qi2.training.config import OptimizerConfig
from qi2.training.optim import build_optimizer


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_only_hidden_matrices_decay(name: str) -> None:
    network = nn.ModuleDict({"inlet": nn.Linear(3, 4), "block": nn.Linear(4, 4)})
    before = {key: value.clone() for key, value in network.state_dict().items()}
    config = OptimizerConfig(name=name, lr=0.1, adam_lr=0.1, weight_decay=0.5)
    optimizer = build_optimizer(network, config, hidden=lambda key: key.startswith("block"))
    for p in network.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"block.weight"}
    assert torch.allclose(network["block"].weight, before["block.weight"] * 0.95)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(QI2Error, match="optimizer 'adamw' is not known; choose adam .* or muon"):
        build_optimizer(nn.Linear(2, 2), OptimizerConfig(name="adamw"))
