"""The convention of time: t = 0 is data, t = 1 is noise."""

import torch

from qi2.models import flow
from qi2.models.config import SamplerConfig, Schedule
from qi2.models.ragged import Ragged
from qi2.models.sampler import Guided, sample, times
from qi2.models.sequence import Prefix


def test_ends_and_inverse():
    x0, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert torch.equal(flow.interpolate(x0, noise, torch.zeros(2)), x0)
    assert torch.equal(flow.interpolate(x0, noise, torch.ones(2)), noise)
    t = torch.tensor([0.3, 0.8])
    x_t, v = flow.interpolate(x0, noise, t), flow.velocity(x0, noise)
    torch.testing.assert_close(flow.to_x0(x_t, v, t), x0)
    torch.testing.assert_close(flow.to_noise(x_t, v, t), noise)


def test_schedule_runs_from_noise_to_data_and_shift_favours_noise():
    plain, shifted = times(Schedule(4), [16]), times(Schedule(4, 3.0), [16])
    assert plain.tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    torch.testing.assert_close(shifted, torch.tensor([1.0, 0.9, 0.75, 0.5, 0.0]))


def test_published_shift_grows_with_the_resolution():
    """The published scheduler's values at steps 1, 20 and 39 of 40."""
    schedule = SamplerConfig(dynamic_shift=True, terminal=0.02).schedule()
    each = times(schedule, [256, 16384, 256])
    torch.testing.assert_close(each[[1, 20, 39], 0], torch.tensor([0.9844, 0.6144, 0.02]), atol=6e-5, rtol=0)
    torch.testing.assert_close(each[[1, 20, 39], 1], torch.tensor([0.9926, 0.7724, 0.02]), atol=6e-5, rtol=0)
    assert torch.equal(each[:, 0], each[:, 2])


def exact(x0):
    """The velocity that leads to x0."""

    def velocity(x, t):
        if isinstance(x, list):
            return [(a - b) / s for a, b, s in zip(x, x0, t.expand(len(x)), strict=True)]
        return (x - x0) / t.view(-1, 1, 1, 1)

    return velocity


def test_sampler_ends_at_the_clean_prediction():
    x0 = torch.randn(2, 3, 2, 2)
    torch.testing.assert_close(sample(exact(x0), torch.randn(2, 3, 2, 2), Schedule(4, 3.0)), x0)


def test_sampler_takes_targets_of_any_sizes_each_by_its_own_times():
    x0, calls = [torch.randn(3, 2, 2), torch.randn(3, 4, 6)], []
    schedule = SamplerConfig(dynamic_shift=True).schedule(4)
    clean = sample(exact(x0), [torch.randn_like(x) for x in x0], schedule, lambda: calls.append(1))
    for a, b in zip(clean, x0, strict=True):
        torch.testing.assert_close(a, b)
    assert len(calls) == 4


class Linear:
    """A network whose velocity is its prefix's number."""

    def __call__(self, x, t, prefix):
        v = [torch.full_like(a, float(p)) for a, p in zip(x, prefix.target_start, strict=True)]
        return v if isinstance(x, list) else torch.stack(v)


def prefix(*numbers):
    return Prefix(Ragged([1] * len(numbers)), torch.tensor(numbers), [None] * len(numbers))


def test_samples_at_other_times_are_guided_each_by_its_own():
    """Targets of unequal sizes have unequal times: whether one is guided does not depend on the others."""
    x = torch.ones(2, 1, 1, 1)
    guided = Guided(Linear(), prefix(1.0, 2.0), prefix(0.0, 1.5), 4.0, interval=(0.2, 0.8))
    alone = [Guided(Linear(), prefix(a), prefix(b), 4.0, interval=(0.2, 0.8)) for a, b in ((1.0, 0.0), (2.0, 1.5))]
    for t in (torch.tensor([0.9, 0.5]), torch.tensor([0.5, 0.1])):
        wanted = torch.cat([one(x[:1], t[i : i + 1]) for i, one in enumerate(alone)])
        assert torch.equal(guided(x, t), wanted)
        assert torch.equal(torch.stack(guided(list(x), t)), wanted)


def test_guidance_leads_away_from_the_unconditional_branch_inside_its_interval():
    x = torch.zeros(2, 3, 2, 2)
    guided = Guided(Linear(), prefix(1.0, 2.0), prefix(0.0, 1.5), 4.0, interval=(0.2, 0.8))
    assert guided(x, torch.tensor([0.5]))[:, 0, 0, 0].tolist() == [4.0, 3.5]
    assert guided(x, torch.tensor([0.9]))[:, 0, 0, 0].tolist() == [1.0, 2.0]


def test_rescaled_guidance_has_the_conditional_spread():
    v, v_u = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    guided = Guided(Linear(), prefix(1.0), prefix(0.0), 6.0, rescale=1.0)._combine(v, v_u)
    torch.testing.assert_close(guided.std((1, 2, 3)), v.std((1, 2, 3)))
