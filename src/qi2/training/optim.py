"""Optimisers: Adam (the report's, Table 2) and Muon for hidden matrices, which learns faster at small budgets.

Muon (Jordan et al., 2024) replaces a matrix's momentum by its nearest semi-orthogonal matrix, found by a Newton-Schulz
iteration. torch's own Muon runs that in bf16, which is very slow on CPUs; this one works in the parameter's dtype, batches
matrices of one shape, and treats all other parameters with AdamW inside the same optimiser, so that Lightning sees one.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from qi2.core.errors import QI2Error
from qi2.training.config import OptimizerConfig


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrices of a batch (N, rows, columns), by the quintic Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for the group with ``matrices=True``, AdamW for the others; both with decoupled weight decay.

    A convolution's kernel counts as the matrix (out, in * height * width).
    """

    def __init__(self, groups: Iterable[dict[str, Any]], betas: tuple[float, float], momentum: float, weight_decay: float) -> None:
        super().__init__(groups, {"lr": 1e-3, "betas": betas, "momentum": momentum, "weight_decay": weight_decay, "matrices": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            (self._step_matrices if group["matrices"] else self._step_adam)(group, parameters)
        return loss

    def _step_matrices(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for p in parameters:
            by_shape[p.shape].append(p)
        for shape, same in by_shape.items():
            updates = torch.stack([self._momentum(p, group["momentum"]).flatten(1) for p in same])
            updates = orthogonalise(updates) * max(1.0, updates.shape[1] / updates.shape[2]) ** 0.5
            for p, update in zip(same, updates.unflatten(2, shape[1:]), strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])

    def _momentum(self, p: Tensor, momentum: float) -> Tensor:
        assert p.grad is not None
        buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
        buffer.lerp_(p.grad, 1 - momentum)
        return p.grad.lerp(buffer, momentum)

    def _step_adam(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        beta1, beta2 = group["betas"]
        for p in parameters:
            state = self.state[p]
            if not state:
                state |= {"step": 0, "mean": torch.zeros_like(p), "square": torch.zeros_like(p)}
            state["step"] += 1
            state["mean"].lerp_(p.grad, 1 - beta1)
            state["square"].mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
            denominator = (state["square"] / (1 - beta2 ** state["step"])).sqrt_().add_(1e-8)
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.addcdiv_(state["mean"], denominator, value=-group["lr"] / (1 - beta1 ** state["step"]))


def build_optimizer(network: nn.Module, config: OptimizerConfig, hidden: Callable[[str], bool] = lambda name: True) -> torch.optim.Optimizer:
    """An optimiser for a network's trainable parameters.

    ``hidden(name)`` says which matrices and convolutions are hidden ones: only they decay, and Muon takes them and no others.
    """
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    betas = (config.betas[0], config.betas[1])
    inside = {name for name, p in named if p.dim() in (2, 4) and hidden(name)}
    matrices = {"params": [p for name, p in named if name in inside], "lr": config.lr}
    others = {"params": [p for name, p in named if name not in inside], "weight_decay": 0.0}
    if config.name == "adam":
        fused = True if all(p.is_cuda for _, p in named) else None
        return torch.optim.AdamW(_filled(matrices, others), lr=config.lr, betas=betas, weight_decay=config.weight_decay, fused=fused)
    if config.name != "muon":
        raise QI2Error(f"optimizer {config.name!r} is not known; choose adam (with decoupled weight decay) or muon")
    groups = _filled(matrices | {"matrices": True}, others | {"lr": config.adam_lr})
    return Muon(groups, betas, config.momentum, config.weight_decay)


def _filled(*groups: dict[str, Any]) -> list[dict[str, Any]]:
    return [group for group in groups if group["params"]]


def lr_factor(step: int, total: int, config: OptimizerConfig) -> float:
    """Linear warm-up, constant, then linear decay to ``floor`` over the last ``decay_share`` of ``total`` steps."""
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    left = (total - step) / max(total * config.decay_share, 1)
    return warm * max(config.floor, min(1.0, left))
