"""Batches of both tasks: each sample's loss is what it would be alone, and its randomness is its own."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from qi2.models.mmdit import MMDiT
from qi2.objectives.flow_matching import flow_matching_loss, flow_matching_losses
from qi2.training.data_plan import PlanSettings
from qi2.training.encoded import EncodedSet
from qi2.training.mixture import Mixture, Part, add_noise, supervised_losses
from qi2.training.share import Share

CPU = torch.device("cpu")


def mixture(world: Any, batch: int = 12) -> Mixture:
    return Mixture(EncodedSet(world.encoded), 6, PlanSettings([64], [batch], 0.5), 0, "test")


def losses(model: MMDiT, own: Mixture, part: Part) -> torch.Tensor:
    return supervised_losses(model, own.data, part, add_noise(part, 0.0, 1.0, 0, "test/noise", CPU)).detach()


def test_mixed_batch_has_the_losses_of_separate_ones(small_world: Any) -> None:
    own, model = mixture(small_world), MMDiT.load(small_world.model)
    part = own.part(0, dropout=0.3)
    assert {sample.task for sample in part.samples} == {"t2i", "ti2i"}
    mixed = losses(model, own, part)
    for task in ("t2i", "ti2i"):
        places = [i for i, own_task in enumerate(part.tasks) if own_task == task]
        torch.testing.assert_close(losses(model, own, part.only(places)), mixed[places])


def test_samples_of_unlike_shapes_count_equally(small_world: Any) -> None:
    own, model = mixture(small_world), MMDiT.load(small_world.model)
    part = own.part(0)
    for sample in part.samples[::2]:
        sample.target = sample.target[:, :2]
    mixed = losses(model, own, part)
    for i in range(len(part.samples)):
        torch.testing.assert_close(losses(model, own, part.only([i]))[0], mixed[i])
    lists = [[torch.randn(64, h, 4) for h in (2, 4)] for _ in range(3)]
    each = flow_matching_losses(*lists)
    torch.testing.assert_close(flow_matching_loss(*lists), each.mean())
    torch.testing.assert_close(each[1], flow_matching_loss(*(x[1][None] for x in lists)))


@pytest.mark.parametrize("world", [2, 3])
def test_any_number_of_ranks_has_the_same_captions_dropout_and_noise(small_world: Any, world: int) -> None:
    own = mixture(small_world)
    whole, parts = own.part(3, 0.5), [own.part(3, 0.5, Share(rank, world)) for rank in range(world)]
    noised, n = add_noise(whole, 0.0, 1.0, 0, "test/noise", CPU), len(whole.samples) // world
    for rank, part in enumerate(parts):
        mine = add_noise(part, 0.0, 1.0, 0, "test/noise", CPU)
        assert part.drop == whole.drop[rank * n : (rank + 1) * n]
        assert [sample.prompt for sample in part.samples] == [sample.prompt for sample in whole.samples[rank * n : (rank + 1) * n]]
        assert torch.equal(mine.noise, noised.noise[rank * n : (rank + 1) * n])
        assert torch.equal(mine.t, noised.t[rank * n : (rank + 1) * n])


def test_dropout_has_its_rate_and_is_the_samples_own(small_world: Any) -> None:
    own = mixture(small_world, 16)
    drops = [drop for step in range(120) for drop in own.part(step, 0.1).drop]
    assert np.mean(drops) == pytest.approx(0.1, abs=0.03)
    assert own.part(7, 0.1).drop == mixture(small_world, 16).part(7, 0.1).drop


def test_a_copying_model_trains_on_mixed_batches_sample_by_sample(small_world: Any) -> None:
    own, trained = mixture(small_world), MMDiT.load(small_world.model)
    model = MMDiT(replace(trained.config, copy_head=True))
    model.load_state_dict(trained.state_dict(), strict=False)
    part = own.part(0)
    mixed = losses(model, own, part)
    assert mixed.shape == (len(part.samples),)
    assert bool((mixed > 0).all())


def test_tokens_of_a_batch_are_those_that_the_network_reads(small_world: Any) -> None:
    own = mixture(small_world)
    part = own.part(0, dropout=0.3)
    targets = sum(sample.target[0].numel() for sample in part.samples)
    read = [sample for sample, gone in zip(part.samples, part.drop, strict=True) if not gone]
    assert 0 < len(read) < len(part.samples)
    assert own.data.tokens(part.samples, part.drop) == targets + len(own.data.condition(read).order)
