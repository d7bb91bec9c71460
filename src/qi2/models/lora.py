"""LoRA on the MMDiT through peft: adapters are trained, merged, and exchanged under the names that diffusers gives the modules.

A file holds ``transformer.MODULE.lora_A.weight`` (rank, in) and ``lora_B.weight`` (out, rank), with rank, alpha and targets in its header:
what diffusers' ``load_lora_weights`` reads and ``save_lora_weights`` writes for this model.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from qi2.core.errors import QI2Error
from qi2.models.config import LoRAConfig
from qi2.models.mmdit import MMDiT
from qi2.models.mmdit_diffusers import module_names

FILE = "pytorch_lora_weights.safetensors"
PREFIX, METADATA = "transformer.", "lora_adapter_metadata"
ADAPTER = "default"
UNSUPPORTED = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "lora_bias", "modules_to_save")


@dataclass
class Adapter:
    """Tensors under our modules' names, ``MODULE.lora_A.weight``, and how they scale: alpha / rank."""

    config: LoRAConfig
    tensors: dict[str, Tensor] = field(default_factory=dict)


def add_adapter(model: MMDiT, config: LoRAConfig) -> MMDiT:
    """Freeze the model and give its target modules trainable adapters that change nothing yet; in place.

    Raises QI2Error where a target names no linear layer of the blocks.
    """
    peft = _peft()
    known = {name.rsplit(".", 1)[-1] for name, module in model.blocks.named_modules() if isinstance(module, nn.Linear)}
    if unknown := sorted(set(config.targets) - known):
        raise QI2Error(f"lora.targets names {unknown[0]!r}, which is no linear layer of the blocks; choose among {', '.join(sorted(known))}")
    settings = peft.LoraConfig(r=config.rank, lora_alpha=config.alpha or config.rank, target_modules=rf"blocks\.\d+\..*\.({'|'.join(config.targets)})")
    model.requires_grad_(False)
    peft.inject_adapter_in_model(settings, model, adapter_name=ADAPTER)
    return model


def adapter_of(model: MMDiT) -> Adapter:
    """The adapter that `add_adapter` or `apply_adapter` gave the model."""
    settings = next(module for module in model.modules() if isinstance(module, _layer_class()))
    config = LoRAConfig(rank=settings.r[ADAPTER], alpha=float(settings.lora_alpha[ADAPTER]))
    state = _peft().get_peft_model_state_dict(model, adapter_name=ADAPTER)
    return Adapter(config, {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()})


def _layer_class() -> Any:
    _peft()
    from peft.tuners.lora import LoraLayer

    return LoraLayer


def save_adapter(adapter: Adapter, folder: Path, layers: int) -> Path:
    """Write the file under diffusers' names."""
    names = module_names(layers)
    tensors = {}
    for name, tensor in adapter.tensors.items():
        module, part = _split(name)
        tensors[f"{PREFIX}{names[module]}.{part}"] = tensor
    rank = adapter.config.rank
    targets = sorted({names[_split(name)[0]] for name in adapter.tensors})
    header = {f"{PREFIX}r": rank, f"{PREFIX}lora_alpha": adapter.config.alpha or rank, f"{PREFIX}target_modules": targets}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / FILE, metadata={"format": "pt", METADATA: json.dumps(header, sort_keys=True)})
    return folder / FILE


def read_adapter(path: Path, layers: int) -> Adapter:
    """Read a file, or the folder that holds one. Raises QI2Error that names what is missing or does not belong to this model."""
    path = path / FILE if path.is_dir() else path
    if not path.exists():
        raise QI2Error(f"no LoRA at {path}; give a .safetensors file, or a folder with {FILE}")
    names = {theirs: ours for ours, theirs in module_names(layers).items()}
    with safe_open(path, framework="pt") as file:
        header = json.loads((file.metadata() or {}).get(METADATA, "{}"))
        header = {name.removeprefix(PREFIX): value for name, value in header.items()}
        tensors, alphas = {}, []
        for name in file.keys():  # noqa: SIM118 (not a dictionary)
            if name.endswith(".alpha"):
                alphas.append(float(file.get_tensor(name)))
                continue
            module, part = _split(name.removeprefix(PREFIX).removeprefix("diffusion_model."))
            if module not in names:
                raise QI2Error(f"{path} has {name}, which this MMDiT of {layers} blocks lacks; the LoRA belongs to another model")
            tensors[f"{names[module]}.{part}"] = file.get_tensor(name)
    ranks = {tensor.shape[0] for name, tensor in tensors.items() if name.endswith("lora_A.weight")}
    if len(ranks) != 1 or len(set(alphas)) > 1:
        raise QI2Error(f"{path} holds the ranks {sorted(ranks)} and the alphas {sorted(set(alphas))}; only one of each can be loaded")
    rank = ranks.pop()
    targets = sorted({_split(name)[0].rsplit(".", 1)[-1] for name in tensors})
    if odd := [name for name in UNSUPPORTED if header.get(name)]:
        raise QI2Error(f"{path} was trained with {', '.join(odd)}; only plain LoRA of one rank and one alpha can be loaded")
    alpha = header.get("lora_alpha", alphas[0] if alphas else rank)
    return Adapter(LoRAConfig(rank=rank, alpha=float(alpha), targets=targets), tensors)


def apply_adapter(model: MMDiT, adapter: Adapter) -> MMDiT:
    """Give the model this adapter, to train on or to `merge`; in place."""
    add_adapter(model, adapter.config)
    missing = set(_peft().get_peft_model_state_dict(model, adapter_name=ADAPTER)) ^ set(adapter.tensors)
    if missing:
        raise QI2Error(f"the LoRA has no adapter for every target module, or one too many: {sorted(missing)[0]}; only adapters of whole blocks can be loaded")
    _peft().set_peft_model_state_dict(model, adapter.tensors, adapter_name=ADAPTER)
    return model


def with_adapter(model: MMDiT, config: LoRAConfig) -> MMDiT:
    """The model itself, or frozen with the adapters that train: new ones, or those of ``config.path``."""
    if config.path:
        return apply_adapter(model, read_adapter(Path(config.path), model.config.layers))
    return add_adapter(model, config) if config.rank else model


@torch.no_grad()
def merge(model: MMDiT) -> MMDiT:
    """Add the adapters to the weights that they belong to, and leave a plain model; in place."""
    layer_class = _layer_class()
    for name, module in list(model.named_modules()):
        if isinstance(module, layer_class):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.get_base_layer())
    return model.requires_grad_(True)


def _split(name: str) -> tuple[str, str]:
    """``MODULE.lora_A.weight`` to its module and the rest."""
    module, found, rest = name.partition(".lora_")
    if not found:
        raise QI2Error(f"{name} is no tensor of a LoRA; give a file that peft or diffusers wrote")
    return module, f"lora_{rest}"


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise QI2Error('LoRA needs peft; install it with: pip install "qi2[lora]"') from error
    return peft
