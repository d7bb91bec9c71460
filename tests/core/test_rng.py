"""Random streams depend on their key alone."""

import torch

from qi2.core import rng


def test_streams_are_repeatable_and_apart():
    def draw(*index):
        return torch.randn(4, generator=rng.generator(0, "noise", *index))

    assert torch.equal(draw(1, 2), draw(1, 2))
    assert not torch.equal(draw(1, 2), draw(2, 1))
    assert rng.key(0, "a") != rng.key(0, "b") != rng.key(1, "b")
