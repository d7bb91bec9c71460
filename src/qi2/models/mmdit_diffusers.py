"""The open Qwen-Image-2.1 transformer as a folder of diffusers (QwenImage21Transformer2DModel): its names and its config, in both directions.

The two networks have the same matrices under other names, so conversion renames tensors and never touches a value.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from qi2.core.errors import QI2Error
from qi2.models.config import MMDiTConfig
from qi2.models.mmdit import MMDiT

CLASS, VERSION = "QwenImage21Transformer2DModel", "0.42.1"
WEIGHTS, INDEX = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json"
SHARD = "10GB"  # of memory that one file of weights holds

OUTER = {
    "img_in": "img_in",
    "txt_in.norm": "txt_in.text_norm",
    "txt_in.in_layer": "txt_in.in_layer",
    "txt_in.out_layer": "txt_in.out_layer",
    "time_in.linear_1": "time_text_embed.timestep_embedder.linear_1",
    "time_in.linear_2": "time_text_embed.timestep_embedder.linear_2",
    "modulation": "modulation.1",
    "norm_out": "norm_out.linear",
    "proj_out": "proj_out",
}
"""Our modules and theirs; each holds one ``weight``."""

INNER = {
    "attention.to_q": "attn.to_q",
    "attention.to_k": "attn.to_k",
    "attention.to_v": "attn.to_v",
    "attention.to_out": "attn.to_out.0",
    "attention.norm_q": "attn.norm_q",
    "attention.norm_k": "attn.norm_k",
    "mlp.proj": "img_mlp.proj",
    "mlp.gate": "img_mlp.gate_layer",
    "mlp.out": "img_mlp.out",
}
"""The same inside a block: ``blocks.N`` and ``transformer_blocks.N``."""


def module_names(layers: int) -> dict[str, str]:
    """Every module with a weight, ours to theirs."""
    inner = {f"blocks.{n}.{ours}": f"transformer_blocks.{n}.{theirs}" for n in range(layers) for ours, theirs in INNER.items()}
    return OUTER | inner


def config_from_diffusers(config: dict[str, Any]) -> MMDiTConfig:
    """Our config of their config.json. Raises QI2Error where it describes another network."""
    if config.get("_class_name", CLASS) != CLASS:
        raise QI2Error(f"the transformer's config.json is of a {config['_class_name']}; only {CLASS} can be converted")
    channels = config.get("in_channels", 64)
    if config.get("patch_size", 1) != 1 or config.get("out_channels") not in (None, channels):
        raise QI2Error(
            "the transformer's config.json has a patch_size other than 1 or other out_channels than in_channels; such a model has no counterpart here"
        )
    heads = config.get("num_attention_heads", 32)
    return MMDiTConfig(
        layers=config.get("num_layers", 32),
        width=heads * config.get("attention_head_dim", 128),
        heads=heads,
        mlp_ratio=float(config.get("mlp_ratio", 3)),
        latent_channels=channels,
        context_width=config.get("context_in_dim", 4096),
        rope_axes=list(config.get("axes_dims_rope", (16, 56, 56))),
        eps=config.get("eps", 1e-6),
        condition_at_zero=config.get("causal_condition", True),
    )


def config_to_diffusers(config: MMDiTConfig) -> dict[str, Any]:
    """Their config.json of our config. Raises QI2Error that names what their class cannot express."""
    ours_alone = {
        "attention": config.attention == "block_causal", "gates": config.gates, "shared_modulation": config.shared_modulation,
        "places": not config.places, "image_shortcut": not config.image_shortcut, "copy_head": not config.copy_head, "rope_theta": config.rope_theta == 10000.0,
        "mlp_ratio": config.mlp_ratio == int(config.mlp_ratio),
    }  # fmt: skip
    if odd := [f"mmdit.{name}={getattr(config, name)}" for name, fits in ours_alone.items() if not fits]:
        raise QI2Error(f"{CLASS} has no {', '.join(odd)}; a model that is to be shipped to diffusers must be trained without")
    return {
        "_class_name": CLASS,
        "_diffusers_version": VERSION,
        "patch_size": 1,
        "in_channels": config.latent_channels,
        "out_channels": config.latent_channels,
        "num_layers": config.layers,
        "attention_head_dim": config.width // config.heads,
        "num_attention_heads": config.heads,
        "context_in_dim": config.context_width,
        "mlp_ratio": int(config.mlp_ratio),
        "axes_dims_rope": config.rope_axes,
        "eps": config.eps,
        "causal_condition": config.condition_at_zero,
    }


def rename(tensors: dict[str, Any], names: dict[str, str], what: str) -> dict[str, Any]:
    """Tensors ``MODULE.weight`` under the names that ``names`` gives their modules. Raises QI2Error for one that is missing or unknown."""
    wanted = {f"{module}.weight": f"{other}.weight" for module, other in names.items()}
    if missing := sorted(set(wanted) - set(tensors)):
        raise QI2Error(f"{what} lacks {missing[0]} ({len(missing)} tensors in all); its config.json belongs to another file")
    if unknown := sorted(set(tensors) - set(wanted)):
        raise QI2Error(f"{what} has {unknown[0]} ({len(unknown)} tensors in all), which its config.json does not ask for")
    return {wanted[name]: tensor for name, tensor in tensors.items()}


def load_mmdit(folder: Path) -> MMDiT:
    """An MMDiT of our folder, of a diffusers transformer's, or of a diffusers pipeline's. Raises QI2Error where it is none of them."""
    folder = Path(folder)
    folder = folder / "transformer" if (folder / "transformer").is_dir() else folder
    if not (folder / WEIGHTS).exists() and not (folder / INDEX).exists():
        return MMDiT.load(folder)
    return mmdit_from_diffusers(folder)


def mmdit_from_diffusers(folder: Path) -> MMDiT:
    """Our network with their weights, in their types; ``origin`` keeps their config as it was written."""
    if not (folder / "config.json").exists():
        raise QI2Error(f"{folder} has weights of diffusers but no config.json; copy the whole folder")
    origin = json.loads((folder / "config.json").read_text())
    config = config_from_diffusers(origin)
    names = {theirs: ours for ours, theirs in module_names(config.layers).items()}
    with torch.device("meta"):
        model = MMDiT(config)
    model.load_state_dict(rename(read_weights(folder), names, str(folder)), assign=True)
    model.origin = origin
    return model.eval()


def mmdit_to_diffusers(model: MMDiT, folder: Path) -> None:
    """Write their folder: config.json and weights, in shards where they are large. Raises QI2Error for what their class cannot express."""
    from huggingface_hub import save_torch_state_dict

    config = config_to_diffusers(model.config)
    plain = replace(model.config, checkpointing=False, compile=False, kernel="auto")  # of how to compute, their file says nothing
    if model.origin and config_from_diffusers(model.origin) == plain:
        config = model.origin
    tensors = rename(dict(model.state_dict()), module_names(model.config.layers), "the model")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    pattern = WEIGHTS.replace(".safetensors", "{suffix}.safetensors")
    save_torch_state_dict({name: tensor.cpu() for name, tensor in tensors.items()}, folder, filename_pattern=pattern, max_shard_size=SHARD)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder of diffusers, from one file or from its shards. Raises QI2Error that names a shard that is missing."""
    if not (folder / INDEX).exists():
        return load_file(folder / WEIGHTS)
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values())):
        if not (folder / name).exists():
            raise QI2Error(f"{folder / INDEX} names {name}, which is not there; copy it too")
        tensors |= load_file(folder / name)
    return tensors
