"""Our VAE is the published one: diffusers' AutoencoderKLQwenImage21 and ours, with the same weights, compute and store the same."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLQwenImage21
from torch import Tensor

from qi2.config import load
from qi2.core.errors import QI2Error
from qi2.models.vae import VAE, over_white
from qi2.models.vae_config import VAEArchitecture
from qi2.models.vae_diffusers import CONFIG, WEIGHTS, architecture_of, load_vae, state_to_diffusers, vae_from_diffusers, vae_to_diffusers
from qi2.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "base_dim": 8,
    "decoder_base_dim": 12,
    "z_dim": 6,
    "latents_mean": [0.1 * i - 0.2501 for i in range(6)],
    "latents_std": [1.3 + 0.7 * i for i in range(6)],
}


def published(folder: Path, dtype: torch.dtype = torch.float32, **changes: Any) -> AutoencoderKLQwenImage21:
    """Their model with random weights, gains too, saved to ``folder``."""
    torch.manual_seed(0)
    model = AutoencoderKLQwenImage21(**(SMALL | changes)).eval()
    for name, p in model.named_parameters():
        if name.endswith("gamma"):
            torch.nn.init.uniform_(p, 0.5, 1.5)
    model.to(dtype).save_pretrained(folder)
    return model


BOUNDS = {torch.float32: (1e-4, 1e-4), torch.float64: (1e-12, 1e-5)}
"""Largest difference over the root mean square, up to the latent and behind it: rounding of the type (the decoder of theirs doubles in float32)."""


def close(ours: Tensor, theirs: Tensor, bound: float) -> None:
    """Equal within ``bound`` of the root mean square."""
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= bound * theirs.square().mean().sqrt()


@pytest.mark.parametrize("dtype", list(BOUNDS))
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(
    "changes", [{}, {"temperal_downsample": [False] * 4}, {"temperal_downsample": [True] * 4, "num_res_blocks": 1, "decoder_base_dim": None}]
)
def test_encoding_and_decoding_are_theirs(tmp_path: Path, channels: int, changes: dict[str, Any], dtype: torch.dtype) -> None:
    theirs = published(tmp_path, in_channels=channels, out_channels=channels, **changes).to(dtype)
    ours = vae_from_diffusers(tmp_path).to(dtype)
    images = torch.rand(2, channels, 48, 80, dtype=dtype) * 2 - 1
    with torch.no_grad():
        wanted = theirs.encode(images[:, :, None]).latent_dist
        mean, logvar = ours.posterior(images)
        close(mean, wanted.mean[:, :, 0], BOUNDS[dtype][0])
        close(logvar, wanted.logvar[:, :, 0], BOUNDS[dtype][0])
        mean_of_all, std = (torch.tensor(theirs.config[name]).to(dtype)[:, None, None] for name in ("latents_mean", "latents_std"))
        latents = ours.encode(images)
        close(latents, (wanted.mode()[:, :, 0] - mean_of_all) / std, BOUNDS[dtype][0])
        close(ours.decode(latents), theirs.decode(wanted.mode()).sample[:, :, 0], BOUNDS[dtype][1])


@pytest.mark.parametrize("dtype", list(BOUNDS))
@pytest.mark.parametrize("channels", [3, 4])
def test_gradients_are_theirs(tmp_path: Path, channels: int, dtype: torch.dtype) -> None:
    theirs = published(tmp_path, in_channels=channels, out_channels=channels).to(dtype)
    ours = vae_from_diffusers(tmp_path).to(dtype)
    for name, p in ours.named_parameters():
        p.requires_grad_("time_conv" not in name)
    images = torch.rand(1, channels, 32, 48, dtype=dtype) * 2 - 1
    inputs = [images.clone().requires_grad_(), images.clone().requires_grad_()]
    mean, logvar = ours.posterior(inputs[0])
    ours.reconstruct(mean + logvar).clamp(-1, 1).square().mean().backward()
    found = theirs.encode(inputs[1][:, :, None]).latent_dist
    theirs.decode(found.mean + found.logvar).sample.square().mean().backward()
    close(inputs[0].grad, inputs[1].grad, BOUNDS[dtype][1])
    renamed = state_to_diffusers({name: p.grad for name, p in ours.named_parameters() if p.grad is not None})
    wanted = {name: p.grad for name, p in theirs.named_parameters() if "time_conv" not in name}
    assert renamed.keys() == wanted.keys()
    for name, gradient in wanted.items():
        close(renamed[name], gradient, BOUNDS[dtype][1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_round_trip_gives_the_same_files_also_through_our_own_folder(tmp_path: Path, dtype: torch.dtype) -> None:
    model = published(tmp_path / "theirs", dtype, decoder_base_dim=None)
    assert any("time_conv" in name for name, _ in model.named_parameters())
    ours = vae_from_diffusers(tmp_path / "theirs")
    ours.save(tmp_path / "ours")
    vae_to_diffusers(ours, tmp_path / "back")
    vae_to_diffusers(load_vae(tmp_path / "ours"), tmp_path / "back_later")
    for name in (CONFIG, WEIGHTS):
        wanted = (tmp_path / "theirs" / name).read_bytes()
        assert (tmp_path / "back" / name).read_bytes() == wanted
        assert (tmp_path / "back_later" / name).read_bytes() == wanted


def test_a_vae_of_our_own_ships_to_diffusers(tmp_path: Path) -> None:
    recipe = load(Recipe, [ROOT / "conf" / "scale" / "report.yaml"])
    torch.manual_seed(0)
    ours = VAE(replace(recipe.vae.model, encoder_base=4, decoder_base=4)).eval().requires_grad_(False)
    ours.latent_mean.uniform_(-1, 1)
    ours.latent_std.uniform_(1, 2)
    vae_to_diffusers(ours, tmp_path)
    theirs = AutoencoderKLQwenImage21.from_pretrained(tmp_path)
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        close(theirs.encode(images[:, :, None]).latent_dist.mean[:, :, 0], ours.posterior(images)[0], 1e-4)
    again = vae_from_diffusers(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), again.state_dict().values(), strict=True))
    assert len(json.dumps(theirs.config["latents_mean"])) < 64 * 14  # 0.5126, not 0.5126000046730042


@pytest.mark.parametrize(
    ("channels", "encoder", "decoder"),
    [(4, 78_675_680, 259_044_052), (3, 78_674_816, 259_042_755)],
)
def test_the_published_size_is_that_of_table_1(channels: int, encoder: int, decoder: int) -> None:
    with torch.device("meta"):
        theirs = AutoencoderKLQwenImage21(in_channels=channels, out_channels=channels)
        ours = VAE(architecture_of({"_class_name": type(theirs).__name__, **theirs.config}))
    counts = [[sum(p.numel() for p in half.parameters()) for half in (m.encoder, m.quant_conv, m.decoder, m.post_quant_conv)] for m in (ours, theirs)]
    assert counts[0] == counts[1] == [encoder, 16_512, decoder, 4_160]
    if channels == 3:
        assert load(Recipe, [ROOT / "conf" / "scale" / "report.yaml"]).vae.model == ours.cfg
    unused = [sum(p.numel() for name, p in half.named_parameters() if "time_conv" in name and not p.requires_grad) for half in (ours.encoder, ours.decoder)]
    assert unused == [775_488, 5_977_728]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"is_residual": False}, "is_residual=False"), ({"out_channels": 3}, "out_channels=3"), ({"dropout": 0.1}, "dropout=0.1")],
)
def test_a_folder_that_ours_cannot_be_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    published(tmp_path, **changes)
    with pytest.raises(QI2Error, match=message):
        vae_from_diffusers(tmp_path)


def test_a_vae_that_theirs_cannot_be_is_refused_by_its_fields(tmp_path: Path) -> None:
    size = {"encoder_base": 4, "decoder_base": 4}
    with pytest.raises(QI2Error, match=r"vae\.model\.encoder_blocks.*vae\.model\.decoder_blocks.*normalisation"):
        vae_to_diffusers(VAE(VAEArchitecture(**size)), tmp_path)


def test_rgb_images_are_opaque_to_an_rgba_vae(tmp_path: Path) -> None:
    published(tmp_path)
    ours = vae_from_diffusers(tmp_path)
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    opaque = torch.cat([images, torch.ones(1, 1, 32, 32)], 1)
    assert torch.equal(ours.encode(images), ours.encode(opaque))
    assert torch.equal(over_white(opaque), images)
    opaque[:, 3] = -1
    assert torch.equal(over_white(opaque), torch.ones(1, 3, 32, 32))
