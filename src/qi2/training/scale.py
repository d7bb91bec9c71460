"""Several processes: DDP, and FSDP2 through Lightning's ModelParallelStrategy, with the same results up to rounding (report 4.1 trains 7B)."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from qi2.core.errors import QI2Error
from qi2.core.ranks import started
from qi2.training.config import EngineConfig

STRATEGIES = ("ddp", "fsdp")
PRECISIONS = ("auto", "32", "bf16")


def processes(engine: EngineConfig, shards: bool) -> int:
    """How many processes train on this machine. Raises QI2Error for settings that do not exist or are not what a launcher has started, and for a
    method that cannot share its steps."""
    if engine.strategy not in STRATEGIES:
        raise QI2Error(f"engine.strategy {engine.strategy!r} is not known; choose one of {', '.join(STRATEGIES)}")
    if engine.precision not in PRECISIONS:
        raise QI2Error(f"engine.precision {engine.precision!r} is not known; choose one of {', '.join(PRECISIONS)}")
    if engine.keep < 1:
        raise QI2Error(f"engine.keep is {engine.keep}; a run goes on from a checkpoint, so keep at least 1")
    if not shards:
        if started() > 1:
            raise QI2Error("this stage trains in one process; start it without torchrun or srun, as `python -m tasks STAGE`")
        return 1
    local = engine.devices or max(1, torch.cuda.device_count())
    if started() not in (1, local * engine.nodes):
        raise QI2Error(
            f"torchrun or srun has started {started()} processes, but engine.devices={local} times engine.nodes={engine.nodes} are {local * engine.nodes}: "
            "set both to what is started, in conf/local/SCALE.yaml (docs/scale.md)"
        )
    return local


def precision(engine: EngineConfig) -> str:
    """``bf16`` or ``32``."""
    if engine.precision != "auto":
        return engine.precision
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False) else "32"


def strategy(engine: EngineConfig, local: int) -> Any:
    """Lightning's strategy for ``local`` processes on each node."""
    from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

    world = local * engine.nodes
    if engine.strategy == "fsdp":
        return ModelParallelStrategy(data_parallel_size=world, tensor_parallel_size=1)
    if world == 1:
        return "auto"
    return DDPStrategy(find_unused_parameters=True)  # a batch without references leaves the weights unused that only read those


def shard(network: nn.Module, parts: list[tuple[nn.Module, list[str]]], mesh: Any, kind: str) -> list[nn.Module]:
    """Shard a network in place over the processes, part after part; returns its structure from before, without weights.

    With ``bf16`` the computation and the gathered weights are bf16, the shards and the optimiser stay in float32.
    """
    plain = [_structure(network)]
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32) if kind == "bf16" else MixedPrecisionPolicy()
    for module, methods in parts:
        fully_shard(module, mesh=mesh["data_parallel"], mp_policy=policy)
        for method in methods:
            register_fsdp_forward_method(module, method)
    return plain


def anywhere(flag: bool, device: torch.device) -> bool:
    """Whether it holds in any process; all must ask."""
    if not torch.distributed.is_initialized():
        return flag
    found = torch.tensor(flag, dtype=torch.int32, device=device)
    torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
    return bool(found)


def gather(network: nn.Module, plain: nn.Module) -> nn.Module:
    """The whole network with its weights on the CPU of rank 0, as if it had never been sharded; all processes must call this."""
    state = get_model_state_dict(network, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if state:
        plain.load_state_dict(state, assign=True)
    return plain


def _structure(network: nn.Module) -> nn.Module:
    """A copy whose parameters and buffers have no storage."""
    tensors: list[Tensor] = [*network.parameters(), *network.buffers()]
    memo: dict[int, Any] = {id(x): _hollow(x) for x in tensors}
    return copy.deepcopy(network, memo)


def _hollow(x: Tensor) -> Tensor:
    empty = torch.empty_like(x, device="meta")
    return nn.Parameter(empty, requires_grad=x.requires_grad) if isinstance(x, nn.Parameter) else empty
