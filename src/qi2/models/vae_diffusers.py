"""The published Qwen-Image-2.1 autoencoder, as a folder of diffusers' AutoencoderKLQwenImage21, to our VAE and back; bit by bit.

The folder holds config.json and diffusion_pytorch_model.safetensors. Ours calls the same weights by other names and keeps normalisation gains
as vectors; nothing else differs, so that both directions are one table of names. What our VAE has no place for (how the numbers of config.json were
written, the weights' types) goes along as ``VAE.origin``. The library of that name is not needed.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from qi2.core.errors import QI2Error
from qi2.models.storage import CONFIG
from qi2.models.vae import VAE
from qi2.models.vae_config import Tiling, VAEArchitecture

CLASS, VERSION = "AutoencoderKLQwenImage21", "0.42.1"
WEIGHTS = "diffusion_pytorch_model.safetensors"
STATISTICS = {"latents_mean": "latent_mean", "latents_std": "latent_std"}

HALVES = (("encoder", "down_blocks", "downsampler"), ("decoder", "up_blocks", "upsampler"))
BLOCK = {"norm1.gain": "norm1.gamma", "conv1.@": "conv1.@", "norm2.gain": "norm2.gamma", "conv2.@": "conv2.@", "carry.@": "conv_shortcut.@"}


def _names() -> Iterator[tuple[str, str]]:
    """Our name and theirs of every weight; # stands for a number, @ for weight or bias."""
    for half, stages, sampler in HALVES:
        blocks = {"stages.#.blocks.#": f"{stages}.#.resnets.#", "middle.0": "mid_block.resnets.0", "middle.2": "mid_block.resnets.1"}
        for place, theirs in blocks.items():
            yield from ((f"{half}.{place}.{a}", f"{half}.{theirs}.{b}") for a, b in BLOCK.items())
        yield f"{half}.stages.#.resample.1.@", f"{half}.{stages}.#.{sampler}.resample.1.@"
        yield f"{half}.stages.#.time_conv.@", f"{half}.{stages}.#.{sampler}.time_conv.@"
        yield f"{half}.middle.1.norm.gain", f"{half}.mid_block.attentions.0.norm.gamma"
        yield f"{half}.middle.1.to_qkv.@", f"{half}.mid_block.attentions.0.to_qkv.@"
        yield f"{half}.middle.1.to_out.@", f"{half}.mid_block.attentions.0.proj.@"
        yield f"{half}.norm_out.gain", f"{half}.norm_out.gamma"
        yield from ((f"{half}.{end}.@", f"{half}.{end}.@") for end in ("conv_in", "conv_out"))
    yield from ((f"{name}.@", f"{name}.@") for name in ("quant_conv", "post_quant_conv"))


def _rules(pairs: list[tuple[str, str]]) -> list[tuple[re.Pattern[str], str]]:
    patterns = (re.escape(name).replace(r"\#", r"(\d+)").replace("@", "(weight|bias)") for name, _ in pairs)
    return [(re.compile(pattern), re.sub("[#@]", "{}", other)) for pattern, (_, other) in zip(patterns, pairs, strict=True)]


NAMES = list(_names())
TO_OURS, TO_THEIRS = _rules([(theirs, ours) for ours, theirs in NAMES]), _rules(NAMES)


def renamed(name: str, rules: list[tuple[re.Pattern[str], str]]) -> str:
    """The other side's name of a weight; QI2Error for one that the table does not know."""
    for pattern, other in rules:
        if found := pattern.fullmatch(name):
            return other.format(*found.groups())
    raise QI2Error(f"{name} is no weight that {CLASS} and our VAE share; give a folder of that class, or a VAE of its layout")


def state_from_diffusers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under our names and shapes, in float32."""
    return {renamed(name, TO_OURS): (tensor.flatten() if name.endswith("gamma") else tensor).float() for name, tensor in state.items()}


def state_to_diffusers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under their names and shapes; the latents' statistics, which stand in their config, are left out."""
    found = {renamed(name, TO_THEIRS): tensor for name, tensor in state.items() if name not in STATISTICS.values()}
    return {name: tensor[(...,) + (None,) * _trailing(name)].contiguous() for name, tensor in found.items()}


def _trailing(name: str) -> int:
    """Axes of length 1 behind the channels of their gains: height and width, and time except in attention."""
    return 0 if not name.endswith("gamma") else 2 if ".attentions." in name else 3


def architecture_of(config: Mapping[str, Any]) -> VAEArchitecture:
    """Our architecture of their config; QI2Error names what it cannot express, or the key that is missing."""
    if config.get("_class_name") != CLASS:
        raise QI2Error(f"the autoencoder is of class {config.get('_class_name')}, not {CLASS}; give a folder of that class")
    try:
        wanted = {"is_residual": True, "dropout": 0.0, "out_channels": config["in_channels"], "patch_size": config["patch_size"] and 1}
        for key, value in wanted.items():
            if config[key] != value:
                raise QI2Error(f"{CLASS} with {key}={config[key]} is not supported; only {value} is")
        stages, blocks = len(config["dim_mult"]), config["num_res_blocks"]
        return VAEArchitecture(
            image_channels=config["in_channels"],
            latent_channels=config["z_dim"],
            factor=2 ** (stages - 1),
            encoder_base=config["base_dim"],
            decoder_base=config["decoder_base_dim"] or config["base_dim"],
            multipliers=list(config["dim_mult"]),
            encoder_blocks=[blocks] * stages,
            decoder_blocks=[blocks + 1] * stages,
            temporal_stages=list(config["temperal_downsample"]),
            normalisation="l2",
            quant_convs=True,
        )
    except KeyError as error:
        raise QI2Error(f"the config of the {CLASS} has no key {error}; save the model again with diffusers {VERSION} or later") from error


def config_of(vae: VAE) -> dict[str, Any]:
    """Their config of our VAE: that of ``vae.origin`` where it still holds. QI2Error names the fields that their class cannot express."""
    statistics = {theirs: getattr(vae, ours).tolist() for theirs, ours in STATISTICS.items()}
    plain = replace(vae.cfg, checkpointing=False, tiling=Tiling(), temporal_stages=vae.cfg.temporal_stages or [False] * (len(vae.cfg.multipliers) - 1))
    kept = vae.origin.get("config")
    if not kept or architecture_of(kept) != plain:
        kept = _written(plain)
    if other := [name for name, value in asdict(architecture_of(kept)).items() if value != getattr(plain, name) and name != "tiling"]:
        raise QI2Error(f"{CLASS} cannot express vae.model.{', vae.model.'.join(other)} of this VAE; the scale `report` has its layout")
    return kept | {name: _numbers(values, kept.get(name)) for name, values in statistics.items()}


def _written(cfg: VAEArchitecture) -> dict[str, Any]:
    return {
        "_class_name": CLASS,
        "_diffusers_version": VERSION,
        "attn_scales": [],
        "base_dim": cfg.encoder_base,
        "decoder_base_dim": cfg.decoder_base,
        "dim_mult": cfg.multipliers,
        "dropout": 0.0,
        "in_channels": cfg.image_channels,
        "is_residual": True,
        "num_res_blocks": cfg.encoder_blocks[0],
        "out_channels": cfg.image_channels,
        "patch_size": None,
        "scale_factor_spatial": cfg.factor,
        "scale_factor_temporal": 2 ** sum(cfg.temporal_stages),
        "temperal_downsample": cfg.temporal_stages,
        "z_dim": cfg.latent_channels,
    }


def _numbers(values: list[float], kept: list[float] | None) -> list[float]:
    """The numbers as they were written, where they are still the same in float32; else the shortest that float32 takes for the same."""
    single = torch.tensor(values, dtype=torch.float32)
    if kept is not None and torch.equal(torch.tensor(kept, dtype=torch.float32), single):
        return kept
    return [float(str(value)) for value in single.numpy()]


def vae_from_diffusers(folder: Path) -> VAE:
    """Our VAE of a folder that diffusers wrote; float32, in evaluation mode, with gradients switched off. QI2Error where it is incomplete."""
    folder = Path(folder)
    if not (folder / CONFIG).exists() or not (folder / WEIGHTS).exists():
        raise QI2Error(f"{folder} has no {CONFIG} and {WEIGHTS}; give the folder `vae` of the published model")
    config = json.loads((folder / CONFIG).read_text())
    state = load_file(folder / WEIGHTS)
    with torch.device("meta"):
        vae = VAE(architecture_of(config))
    statistics = {ours: torch.tensor(config[theirs], dtype=torch.float32) for theirs, ours in STATISTICS.items()}
    try:
        vae.load_state_dict(state_from_diffusers(state) | statistics, assign=True)
    except RuntimeError as error:
        raise QI2Error(f"{folder / WEIGHTS} does not fit {CONFIG} beside it: {str(error).splitlines()[-1].strip()}") from error
    with safe_open(folder / WEIGHTS, "pt") as file:
        metadata = file.metadata()
    usual = Counter(_type(tensor) for tensor in state.values()).most_common(1)[0][0]
    others = {name: _type(tensor) for name, tensor in state.items() if _type(tensor) != usual}
    vae.origin = {"config": config, "metadata": metadata, "dtype": usual, "other_dtypes": others}
    return vae.eval().requires_grad_(False)


def vae_to_diffusers(vae: VAE, folder: Path) -> None:
    """Write a folder that diffusers loads; of a VAE that came from one, the same two files. QI2Error where their class cannot express the VAE."""
    config, origin, folder = config_of(vae), vae.origin, Path(folder)
    usual, others = origin.get("dtype", "float32"), origin.get("other_dtypes", {})
    state = {name: tensor.detach().cpu().to(getattr(torch, others.get(name, usual))) for name, tensor in state_to_diffusers(vae.state_dict()).items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    save_file(state, folder / WEIGHTS, metadata=origin.get("metadata", {"format": "pt"}))


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def load_vae(folder: Path) -> VAE:
    """A VAE of either kind: a folder that `VAE.save` or diffusers wrote, or one that has such a folder ``vae`` in it."""
    folder = Path(folder)
    place = folder if (folder / CONFIG).exists() or not (folder / "vae" / CONFIG).exists() else folder / "vae"
    published = (place / CONFIG).exists() and "_class_name" in json.loads((place / CONFIG).read_text())
    return vae_from_diffusers(place) if published else VAE.load(place)
