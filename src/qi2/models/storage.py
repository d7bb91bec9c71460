"""Exchange format of a network: config.json (its dataclass) and model.safetensors."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from qi2.config import load
from qi2.core.errors import QI2Error
from qi2.core.ranks import local_rank

DTYPES = ("float32", "bfloat16", "float16")
WEIGHTS, CONFIG = "model.safetensors", "config.json"
Network = TypeVar("Network", bound=nn.Module)


def device_of(name: str) -> torch.device:
    """``cpu``, ``cuda:N``, or ``cuda``: in a distributed run the GPU of this process; QI2Error for one that is not here."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise QI2Error(f"unknown device {name!r}; choose cpu or cuda") from error
    if device.type == "cuda" and not (torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()):
        raise QI2Error(f"no device {name} here: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices; choose cpu, or install a CUDA build")
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", local_rank() % torch.cuda.device_count())
    return device


def dtype_of(name: str) -> torch.dtype:
    """The torch type of a name, e.g. ``bfloat16``; QI2Error for one that no network computes in."""
    if name not in DTYPES:
        raise QI2Error(f"unknown dtype {name!r}; choose {', '.join(DTYPES)}")
    return getattr(torch, name)  # type: ignore[no-any-return]


def save_network(network: nn.Module, config: Any, folder: Path) -> None:
    """Write the weights and the config dataclass into ``folder``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(asdict(config), indent=1))
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}, folder / WEIGHTS)


def load_network(build: Callable[[Any], Network], config_type: type, folder: Path) -> Network:
    """Build a network from config.json and load its weights, in the types that the file has; in eval mode.

    Raises QI2Error when the folder has no such files or they do not fit each other.
    """
    folder = Path(folder)
    if not (folder / CONFIG).exists() or not (folder / WEIGHTS).exists():
        raise QI2Error(f"{folder} has no {CONFIG} and {WEIGHTS}; run the stage that writes it, or give another path")
    config: Any = load(config_type, [json.loads((folder / CONFIG).read_text())])
    with torch.device("meta"):  # nothing is drawn or allocated twice
        network = build(config)
    try:
        network.load_state_dict(load_file(folder / WEIGHTS), assign=True)
    except RuntimeError as error:
        raise QI2Error(f"{folder / WEIGHTS} does not fit {CONFIG} beside it: {str(error).splitlines()[-1].strip()}") from error
    return network.eval()
