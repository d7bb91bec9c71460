"""The convention of time: t = 0 is data, t = 1 is noise."""

import torch

from qi2.models import flow
from qi2.models.sampler import sample, schedule


def test_ends_and_inverse():
    x0, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert torch.equal(flow.interpolate(x0, noise, torch.zeros(2)), x0)
    assert torch.equal(flow.interpolate(x0, noise, torch.ones(2)), noise)
    t = torch.tensor([0.3, 0.8])
    x_t, v = flow.interpolate(x0, noise, t), flow.velocity(x0, noise)
    torch.testing.assert_close(flow.to_x0(x_t, v, t), x0)
    torch.testing.assert_close(flow.to_noise(x_t, v, t), noise)


def test_schedule_runs_from_noise_to_data_and_shift_favours_noise():
    plain, shifted = schedule(4, 1.0), schedule(4, 3.0)
    assert plain.tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    torch.testing.assert_close(shifted, torch.tensor([1.0, 0.9, 0.75, 0.5, 0.0]))


def test_sampler_ends_at_the_clean_prediction():
    x0 = torch.randn(2, 3, 2, 2)

    def exact(x, t, prefix):
        return (x - x0) / t.view(-1, 1, 1, 1)

    torch.testing.assert_close(sample(exact, torch.randn(2, 3, 2, 2), None, None, 4, 1.0, 3.0), x0)
