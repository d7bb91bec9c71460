"""The autoencoder: sizes of the report, shapes at any image size, shortcuts, normalised latents, round trip through a folder."""

from pathlib import Path
from typing import Any

import pytest
import torch

from qi2.core.errors import QI2Error
from qi2.models.vae import VAE
from qi2.models.vae_blocks import average_down, duplicate_up
from qi2.models.vae_config import VAEArchitecture


def small(**changes: Any) -> VAE:
    torch.manual_seed(0)
    size = {"encoder_base": 4, "decoder_base": 4, "encoder_blocks": [1] * 3, "decoder_blocks": [1] * 3, "multipliers": [1, 2, 2], "patch": 4}
    return VAE(VAEArchitecture(**(size | changes))).eval()


def test_default_architecture_has_the_reports_parameter_counts() -> None:
    with torch.device("meta"):
        vae = VAE(VAEArchitecture())
    counts = [sum(p.numel() for p in half.parameters()) for half in (vae.encoder, vae.decoder)]
    assert counts[0] == pytest.approx(79e6, rel=0.02)
    assert counts[1] == pytest.approx(259e6, rel=0.02)


@pytest.mark.parametrize("changes", [{}, {"resampling": "fold", "kernel": 1}, {"attention": False}, {"linear_skip": True}, {"checkpointing": True}])
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


def test_checkpointing_changes_neither_result_nor_gradients() -> None:
    images = torch.rand(1, 3, 32, 32)
    results = []
    for checkpointing in (False, True):
        vae = small(checkpointing=checkpointing)
        loss = vae.reconstruct(vae.posterior(images)[0]).square().mean()
        loss.backward()
        results.append((loss.detach(), torch.cat([p.grad.flatten() for p in vae.parameters() if p.grad is not None])))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.allclose(results[0][1], results[1][1])


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


def test_a_folder_without_a_vae_is_named(tmp_path: Path) -> None:
    with pytest.raises(QI2Error, match=str(tmp_path)):
        VAE.load(tmp_path)
