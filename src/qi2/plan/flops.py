"""Counts the work and the saved tensors of a real forward and backward pass, on tensors without data if wished.

Nothing is a hand formula: the pass runs with a FLOP counter and a saved-tensors hook around it, so the figures follow the code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

ATEN = torch.ops.aten


@dataclass(frozen=True)
class Flops:
    """Floating point operations (a multiply-add is two), attention's products of queries, keys and values apart from all others."""

    matmul: float = 0.0
    attention: float = 0.0

    @property
    def total(self) -> float:
        return self.matmul + self.attention

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.matmul + other.matmul, self.attention + other.attention)

    def __sub__(self, other: "Flops") -> "Flops":
        return self + other * -1

    def __mul__(self, factor: float) -> "Flops":
        return Flops(self.matmul * factor, self.attention * factor)


def _attention(q: Any, k: Any, v: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return sdpa_flop_count(q, k, v)


def _attention_backward(grad: Any, q: Any, k: Any, v: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return sdpa_backward_flop_count(grad, q, k, v)


CPU_ATTENTION = {  # torch's counter knows the kernels of GPUs only
    ATEN._scaled_dot_product_flash_attention_for_cpu: _attention,
    ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def counted(call: Callable[[], Any]) -> tuple[Any, Flops]:
    """The result of ``call`` and the work that it took."""
    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
        result = call()
    by_kernel = counter.get_flop_counts().get("Global", {})
    attention = sum(n for kernel, n in by_kernel.items() if "scaled_dot_product" in str(kernel))
    return result, Flops(float(sum(by_kernel.values()) - attention), float(attention))


class SavedBytes(saved_tensors_hooks):
    """Context in which the bytes of tensors kept for the backward pass are summed; storages count once, parameters never."""

    def __init__(self, model: nn.Module) -> None:
        self.skipped = {p.untyped_storage()._cdata for p in model.parameters()}
        self.storages: dict[int, Any] = {}
        super().__init__(self._pack, lambda x: x)

    def __enter__(self) -> "SavedBytes":  # type: ignore[override]
        super().__enter__()
        return self

    def _pack(self, x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in self.skipped:
            self.storages[storage._cdata] = storage  # kept alive, so that no other takes its address
        return x

    @property
    def total(self) -> int:
        return sum(storage.nbytes() for storage in self.storages.values())
