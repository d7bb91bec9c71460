"""Large images in tiles: no seam, one tile is the whole image, and the network never sees more than a tile."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qi2.models.vae import VAE
from qi2.models.vae_config import Tiling, VAEArchitecture
from qi2.models.vae_tiling import spans

OFF, ON = Tiling(above=0), Tiling(above=1, side=256, overlap=128)


@pytest.fixture(scope="module")
def vae() -> VAE:
    """Random weights whose blocks all change something, as in a trained network; latents of mean 0 and variance 1."""
    torch.manual_seed(0)
    size = {"encoder_base": 8, "decoder_base": 8, "encoder_blocks": [1] * 3, "decoder_blocks": [1] * 3, "multipliers": [1, 2, 2], "patch": 4}
    vae = VAE(VAEArchitecture(**size, tiling=OFF)).eval().requires_grad_(False)
    for module in vae.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
    latents = vae.posterior(picture())[0]
    vae.latent_mean.copy_(latents.mean((0, 2, 3)))
    vae.latent_std.copy_(latents.std((0, 2, 3)))
    return vae


def picture() -> Tensor:
    """A smooth picture with grain, (1,3,384,512)."""
    generator = torch.Generator().manual_seed(0)
    smooth = F.interpolate(torch.rand(1, 3, 24, 32, generator=generator) * 2 - 1, scale_factor=16.0, mode="bicubic")
    return (smooth + 0.1 * torch.randn(1, 3, 384, 512, generator=generator)).clamp(-1, 1)


def steps(difference: Tensor, columns: list[int]) -> float:
    """How far the difference to the whole image jumps at these columns, over how far it does elsewhere."""
    jumps = difference.diff(dim=-1).abs().mean((0, 1, 2))
    at = torch.zeros_like(jumps, dtype=torch.bool)
    at[[column - 1 for column in columns]] = True
    return float(jumps[at].mean() / jumps[~at].mean())


@pytest.mark.parametrize("way", ["encode", "decode"])
def test_no_seam_shows_where_tiles_begin_or_end(vae: VAE, way: str) -> None:
    apply = getattr(vae, way)
    vae.cfg.tiling = OFF
    x = picture() if way == "encode" else vae.encode(picture())
    whole = apply(x)
    vae.cfg.tiling = ON
    difference = apply(x) - whole
    cell = whole.shape[-1] // 32
    borders = [place * cell for span in spans(32, 16, 8) for place in (span.start, span.stop) if 0 < place < 32]
    assert difference.abs().mean() < 0.15 * whole.std()
    assert steps(difference, borders) < 1.2
    vae.cfg.tiling = OFF
    left, right = x.chunk(2, dim=-1)
    cut = torch.cat([apply(left), apply(right)], dim=-1) - whole
    assert steps(cut, [16 * cell]) > 1.8  # which is what a seam measures


@pytest.mark.parametrize("way", ["encode", "decode"])
@pytest.mark.parametrize("tiling", [Tiling(above=1, side=512, overlap=64), Tiling(above=384 * 512, side=128, overlap=64)])
def test_an_image_of_one_tile_or_of_few_pixels_is_not_cut(vae: VAE, way: str, tiling: Tiling) -> None:
    vae.cfg.tiling = OFF
    x = picture() if way == "encode" else vae.encode(picture())
    whole = getattr(vae, way)(x)
    vae.cfg.tiling = tiling
    assert torch.equal(getattr(vae, way)(x), whole)


def test_the_network_never_sees_more_than_a_tile(vae: VAE) -> None:
    seen: list[tuple[int, int]] = []
    vae.cfg.tiling = Tiling(above=1, side=128, overlap=32)
    hooks = [
        vae.encoder.register_forward_hook(lambda _, inputs, output: seen.append(tuple(inputs[0].shape[-2:]))),
        vae.decoder.register_forward_hook(lambda _, inputs, output: seen.append(tuple(output.shape[-2:]))),
    ]
    images = vae.decode(vae.encode(picture()[..., :368]))
    for hook in hooks:
        hook.remove()
    assert images.shape == (1, 3, 384, 368)
    assert set(seen) == {(128, 128)}


@pytest.mark.parametrize(("side", "overlap"), [(8, 1), (8, 4), (64, 16)])
def test_tiles_cover_every_length_and_share_the_overlap(side: int, overlap: int) -> None:
    for length in range(1, 400):
        found = spans(length, side, overlap)
        assert found[0].start == 0 and found[-1].stop == length
        assert all(one.stop - other.start >= overlap for one, other in zip(found, found[1:], strict=False))
        assert all(span.stop - span.start == min(side, length) for span in found)


def test_gradients_pass_through_tiles(vae: VAE) -> None:
    vae.cfg.tiling = ON
    latents = torch.randn(1, 64, 24, 32, requires_grad=True)
    vae.decode(latents).square().mean().backward()
    assert latents.grad is not None and (latents.grad.abs().sum(1) > 0).all()
