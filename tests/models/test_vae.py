"""The autoencoder: sizes of the report, shapes at any image size, shortcuts, normalised latents, round trip through a folder."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from qi2.core.errors import QI2Error
from qi2.models.vae import VAE
from qi2.models.vae_blocks import ChannelRMSNorm, PatchOut, average_down, duplicate_up
from qi2.models.vae_config import Tiling, VAEArchitecture


def small(**changes: Any) -> VAE:
    torch.manual_seed(0)
    size = {"encoder_base": 4, "decoder_base": 4, "encoder_blocks": [1] * 3, "decoder_blocks": [1] * 3, "multipliers": [1, 2, 2], "patch": 4}
    return VAE(VAEArchitecture(**(size | changes))).eval()


OPEN = {"temporal_stages": [False, True], "normalisation": "l2", "quant_convs": True}
"""What sets the published layout apart."""


def test_default_architecture_has_the_reports_parameter_counts() -> None:
    with torch.device("meta"):
        vae = VAE(VAEArchitecture())
    counts = [sum(p.numel() for p in half.parameters()) for half in (vae.encoder, vae.decoder)]
    assert counts[0] == pytest.approx(79e6, rel=0.02)
    assert counts[1] == pytest.approx(259e6, rel=0.02)


@pytest.mark.parametrize("changes", [{}, {"resampling": "fold", "kernel": 1}, {"attention": False}, {"linear_skip": True}, {"checkpointing": True}, OPEN])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (32, 64), (80, 48)])
def test_any_size_divisible_by_16_keeps_its_size(changes: dict[str, Any], height: int, width: int) -> None:
    vae = small(**changes)
    latents = vae.encode(torch.rand(2, 3, height, width) * 2 - 1)
    assert latents.shape == (2, 64, height // 16, width // 16)
    images = vae.decode(latents)
    assert images.shape == (2, 3, height, width)
    assert images.abs().max() <= 1


def test_other_sizes_are_refused_with_the_remedy() -> None:
    with pytest.raises(QI2Error, match="72x64.*divisible by 16"):
        small().encode(torch.zeros(1, 3, 72, 64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch": 2}, "factor of 8"),
        ({"encoder_blocks": [1]}, "one number for each"),
        ({"resampling": "pool"}, "stride or fold"),
        ({"multipliers": [1, 3, 5]}, "multipliers"),
        ({"temporal_stages": [True]}, "each of the 2 halvings"),
        ({"normalisation": "group"}, "rms or l2"),
        ({"image_channels": 1}, "3 .RGB. or 4 .RGBA."),
        ({"linear_skip": True, "quant_convs": True}, "without quant_convs"),
        ({"tiling": Tiling(side=128, overlap=24)}, "multiples of 16"),
        ({"tiling": Tiling(side=128, overlap=96)}, "at most half"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(QI2Error, match=message):
        small(**changes)


def test_shortcuts_have_no_parameters_and_undo_each_other() -> None:
    x = torch.randn(2, 8, 4, 6)
    assert torch.allclose(average_down(duplicate_up(x, 8), 8), x)
    assert torch.allclose(average_down(duplicate_up(x, 4), 8), x)
    assert average_down(x, 4).shape == (2, 4, 2, 3)
    assert torch.equal(average_down(x, 16, 1), x.repeat_interleave(2, 1))


def test_a_stage_starts_as_its_shortcut() -> None:
    stage = small().encoder.stages[2]
    x = torch.randn(1, 8, 4, 4)
    assert torch.allclose(stage(x), 2 * x)  # blocks that change nothing, beside the shortcut


def test_temporal_shortcuts_are_those_of_one_frame_of_a_video() -> None:
    x = torch.arange(1.0, 4 * 4 * 6 + 1).reshape(1, 4, 4, 6)
    down = average_down(x, 8, temporal=True)  # eight places of time and space per channel, averaged in fours: of the frame before, of this one
    assert torch.equal(down[:, ::2], torch.zeros(1, 4, 2, 3))
    assert torch.equal(down[:, 1::2], F.avg_pool2d(x, 2))
    assert torch.allclose(average_down(x, 4, temporal=True), F.avg_pool2d(x, 2) / 2)
    up = duplicate_up(x, 2, temporal=True)  # the later of two frames: every second channel
    assert torch.equal(up, F.interpolate(x[:, 1::2], scale_factor=2.0))
    assert torch.equal(duplicate_up(x, 4, temporal=True), duplicate_up(x, 4))


def test_a_norm_of_either_form_scales_to_the_same_size() -> None:
    x = torch.randn(2, 8, 3, 3)
    assert torch.allclose(ChannelRMSNorm(8, "l2")(x), ChannelRMSNorm(8, "rms")(x), atol=1e-4)
    assert torch.isfinite(ChannelRMSNorm(8, "l2")(x.bfloat16() * 0)).all()


def test_time_convolutions_are_kept_and_never_trained() -> None:
    vae = small(**OPEN)
    unused = {name: p for name, p in vae.named_parameters() if "time_conv" in name}
    assert unused.keys() == {f"{half}.stages.{i}.time_conv.{end}" for half, i in (("encoder", 1), ("decoder", 0)) for end in ("weight", "bias")}
    vae.reconstruct(vae.posterior(torch.rand(1, 3, 32, 32))[0]).mean().backward()
    assert {name for name, p in vae.named_parameters() if p.grad is None} == unused.keys()


@pytest.mark.parametrize("changes", [{}, OPEN, OPEN | {"image_channels": 4}])
def test_checkpointing_changes_neither_result_nor_gradients(changes: dict[str, Any]) -> None:
    images = torch.rand(1, 3, 32, 32)
    results = []
    for checkpointing in (False, True):
        vae = small(checkpointing=checkpointing, **changes)
        torch.nn.init.normal_(vae.decoder.stages[0].blocks[0].conv2.weight, std=0.1, generator=torch.Generator().manual_seed(0))
        inputs = images.clone().requires_grad_()
        loss = vae.reconstruct(vae.posterior(inputs)[0]).square().mean()
        loss.backward()
        gradients = [inputs.grad, *(p.grad for p in vae.parameters() if p.requires_grad)]
        assert all(gradient is not None for gradient in gradients)
        results.append((loss.detach(), torch.cat([gradient.flatten() for gradient in gradients])))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_patches_are_those_of_a_transposed_convolution() -> None:
    torch.manual_seed(0)
    layer, latents = PatchOut(5, 3, 8, 8), torch.randn(2, 5, 3, 4)
    expected = F.conv_transpose2d(latents, layer.weight, layer.bias, stride=8)
    assert torch.allclose(layer(latents), expected, atol=1e-6)


def test_encode_normalises_and_decode_takes_normalised_latents() -> None:
    vae = small()
    vae.latent_mean.fill_(0.5)
    vae.latent_std.fill_(2.0)
    images = torch.rand(1, 3, 32, 32)
    mean, _ = vae.posterior(images)
    latents = vae.encode(images)
    assert torch.allclose(latents, (mean - 0.5) / 2)
    assert torch.allclose(vae.decode(latents), vae.reconstruct(mean).clamp(-1, 1), atol=1e-6)


def test_a_saved_vae_loads_the_same_and_frozen(tmp_path: Path) -> None:
    vae = small(linear_skip=True)
    vae.latent_std.uniform_(1, 2)
    vae.save(tmp_path)
    loaded = VAE.load(tmp_path)
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(loaded.decode(loaded.encode(images)), vae.decode(vae.encode(images)))
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


def test_a_vae_that_was_saved_before_there_were_these_fields_still_loads(tmp_path: Path) -> None:
    vae = small()
    vae.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    old = {name: value for name, value in config.items() if name not in (*OPEN, "tiling")}
    (tmp_path / "config.json").write_text(json.dumps(old))
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(VAE.load(tmp_path).encode(images), vae.encode(images))


def test_a_folder_without_a_vae_is_named(tmp_path: Path) -> None:
    with pytest.raises(QI2Error, match=str(tmp_path)):
        VAE.load(tmp_path)
