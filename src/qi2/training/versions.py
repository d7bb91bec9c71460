"""What an encoded folder was made with, as hashes, so that samples of another VAE or condition encoder are refused by name."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qi2.core.errors import QI2Error
from qi2.models.condition import ConditionEncoder
from qi2.models.condition_cache import encoder_hash
from qi2.models.vae import VAE
from qi2.training.config import EncodeConfig
from qi2.training.encoded import VERSIONS

TRANSFORM = "bucket/cover/box/centre"  # how a picture comes to its size; another name where the pixels become others
IDLE = ("checkpointing", "tiling")  # settings of a VAE that leave its latents as they are, up to seams


def network_hash(network: nn.Module, config: Mapping[str, Any]) -> str:
    """Hex SHA-256 of a network's weights and config."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def vae_hash(vae: VAE) -> str:
    """Hex SHA-256 of the VAE's weights and config."""
    return network_hash(vae, {name: value for name, value in asdict(vae.cfg).items() if name not in IDLE})


def versions(vae: VAE, encoder: ConditionEncoder, settings: EncodeConfig | None = None) -> dict[str, Any]:
    """Everything that decides an encoded folder beside the pictures. The encoder's hash holds its weights, config, tokenizer and template."""
    settings = settings or EncodeConfig()
    choices = {"sizes": sorted(settings.sizes), "edit_sizes": sorted(settings.edit_sizes), "captions": settings.captions, "features": settings.features}
    return {"vae": vae_hash(vae), "condition_encoder": encoder_hash(encoder), "transform": TRANSFORM, **choices}


def check(folder: Path, vae: VAE | None, encoder: ConditionEncoder | None) -> None:
    """Raise QI2Error that names what the folder was not encoded with, of what is given."""
    given = {"transform": TRANSFORM}
    if vae is not None:
        given["vae"] = vae_hash(vae)
    if encoder is not None:
        given["condition_encoder"] = encoder_hash(encoder)
    if not (folder / VERSIONS).exists():
        raise QI2Error(f"{folder} does not say what it was encoded with: it has no {VERSIONS}; run stage `encode` again")
    stored = json.loads((folder / VERSIONS).read_text())
    if wrong := [name for name, value in given.items() if stored.get(name) != value]:
        names = ", ".join(name.replace("_", " ") for name in wrong)
        raise QI2Error(f"{folder} was encoded with another {names} than is given now; give the one that it was encoded with, or run stage `encode` again")
