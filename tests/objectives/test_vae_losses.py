"""The autoencoder's losses: zero where they should be, margins, invariances, gradients, and the balance of two losses."""

import pytest
import torch
from torch import nn

from qi2.objectives.vae import (
    adaptive_weight,
    distance_matrix_loss,
    kl_loss,
    marginal_cosine_loss,
    perceptual_loss,
    reconstruction_loss,
)


def test_reconstruction_counts_flat_errors_once_and_edges_too() -> None:
    target = torch.zeros(1, 3, 8, 8)
    shifted = target + 0.5
    assert reconstruction_loss(shifted, target).item() == pytest.approx(0.5)
    stripes = target.clone()
    stripes[..., ::2] = 1.0
    assert reconstruction_loss(stripes, target).item() == pytest.approx(1.5)
    assert reconstruction_loss(stripes, target, gradient_weight=0.0).item() == pytest.approx(0.5)
    assert reconstruction_loss(shifted, target, 0.0, square_weight=2.0).item() == pytest.approx(1.0)


def test_perceptual_ignores_the_size_of_features_and_averages_layers() -> None:
    features = [torch.randn(2, 8, 4, 4), torch.randn(2, 16, 2, 2)]
    assert perceptual_loss([3 * f for f in features], features).item() == pytest.approx(0, abs=1e-6)
    assert perceptual_loss([-features[0], features[1]], features).item() == pytest.approx(2, rel=1e-4)


def test_kl_is_zero_for_the_standard_normal_only() -> None:
    zero = torch.zeros(2, 4, 3, 3)
    assert kl_loss(zero, zero).item() == 0
    assert kl_loss(zero + 1, zero).item() == pytest.approx(0.5)
    assert kl_loss(zero, zero - 2).item() > 0


def test_distance_matrix_compares_likeness_not_directions() -> None:
    features = torch.randn(2, 16, 3, 3)
    turned = torch.einsum("ij,bjhw->bihw", torch.linalg.qr(torch.randn(16, 16))[0], features)
    assert distance_matrix_loss(turned, features).item() == pytest.approx(0, abs=1e-5)
    other = torch.randn(2, 8, 3, 3)
    assert distance_matrix_loss(other, features).item() > 0.05


def test_margins_forgive_small_differences() -> None:
    features, latents = torch.randn(2, 8, 3, 3), torch.randn(2, 8, 3, 3)
    assert distance_matrix_loss(latents, features, 2.0).item() == 0
    assert marginal_cosine_loss(latents, features, 2.0).item() == 0
    assert marginal_cosine_loss(features, features).item() == pytest.approx(0, abs=1e-6)
    assert marginal_cosine_loss(-features, features, 0.5).item() == pytest.approx(1.5)


def test_adaptive_weight_makes_two_losses_pull_alike() -> None:
    layer = nn.Linear(4, 3, bias=False)
    out = layer(torch.randn(5, 4))
    first, second = (out - 1).square().mean(), 1e-3 * out.abs().mean()
    weight = adaptive_weight(first, second, layer.weight)
    pulls = [torch.autograd.grad(loss, layer.weight, retain_graph=True)[0].norm().item() for loss in (first, weight * second)]
    assert pulls[1] == pytest.approx(pulls[0], rel=0.5)
    assert not weight.requires_grad
