"""The open Qwen-Image-2.1 transformer as a folder of diffusers (QwenImage21Transformer2DModel): its names and its config, in both directions.

The two networks have the same matrices under other names, so conversion renames tensors and never touches a value.
"""

from typing import Any

from qi2.core.errors import QI2Error
from qi2.models.config import MMDiTConfig

CLASS = "QwenImage21Transformer2DModel"

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
        "places": not config.places, "image_shortcut": not config.image_shortcut, "rope_theta": config.rope_theta == 10000.0,
        "mlp_ratio": config.mlp_ratio == int(config.mlp_ratio),
    }  # fmt: skip
    if odd := [f"mmdit.{name}={getattr(config, name)}" for name, fits in ours_alone.items() if not fits]:
        raise QI2Error(f"{CLASS} has no {', '.join(odd)}; a model that is to be shipped to diffusers must be trained without")
    return {
        "_class_name": CLASS,
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
