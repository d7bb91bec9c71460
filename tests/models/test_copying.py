"""The copy head: what it copies is exact, it learns to copy what it never saw, and batches of any form agree."""

from dataclasses import replace

import pytest
import torch

from qi2.core.errors import QI2Error
from qi2.models import flow
from qi2.models.config import Schedule
from qi2.models.copying import NEVER, compose
from qi2.models.mmdit import MMDiT
from qi2.models.sampler import Guided, sample
from qi2.models.sequence import Prefix, collate
from qi2.objectives.copying import copying_losses
from tests.models.test_mmdit import CONFIG, latents, prompt, random_model

COPYING = replace(CONFIG, copy_head=True, image_shortcut=True, places=True)


def test_a_certain_choice_ends_at_the_reference_whatever_would_be_drawn():
    references, noise = torch.randn(2, 6, 64), torch.randn(2, 4, 64)
    which = torch.tensor([[0, 5, 2, 2], [1, 1, 3, 4]])
    choice = torch.full((2, 4, 7), NEVER).scatter(2, 1 + which[..., None], 0.0)
    end = sample(lambda x, t: compose(torch.randn_like(x), x, t, choice, references), noise, Schedule(12))
    torch.testing.assert_close(end, references.gather(1, which[..., None].expand(-1, -1, 64)), rtol=0, atol=1e-5)


def test_targets_of_several_sizes_and_repeated_or_joined_conditions_give_what_each_alone_gives():
    model = random_model(COPYING)
    t, pictures = torch.tensor([0.4]), [latents(5), latents(6, 2, 3)]
    first, second = (collate([prompt(i, None, 3)], [[latents(i, 2, 2 + i)]]) for i in (0, 1))
    with torch.no_grad():
        a, b = model.encode_condition(first), model.encode_condition(second)
        nothing = model.encode_condition(collate([prompt(9, 2)], [[]]))
        mixed = model(pictures, t, Prefix.join(a, b))
        for picture, prefix, found in zip(pictures, (a, b), mixed, strict=True):
            torch.testing.assert_close(found[None], model(picture[None], t, prefix), rtol=1e-4, atol=1e-4)
        twice = model(pictures[0].expand(2, -1, -1, -1), t, a.repeat(2))
        torch.testing.assert_close(twice[1:], model(pictures[0][None], t, a), rtol=1e-4, atol=1e-4)
        guided = Guided(model, a, nothing, 2.0)(pictures[0][None], t)
        expected = 2 * model(pictures[0][None], t, a) - model(pictures[0][None], t, nothing)
        torch.testing.assert_close(guided, expected, rtol=1e-3, atol=1e-3)


def test_training_on_random_pictures_teaches_to_copy_others():
    torch.manual_seed(0)
    model = MMDiT(replace(COPYING, layers=1))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)

    def batch(n: int):
        references = [torch.randn(64, 2, 2) for _ in range(n)]
        return torch.stack(references), model.encode_condition(collate([prompt(0, None, 2)] * n, [[x] for x in references]))

    for _ in range(60):
        x0, prefix = batch(16)
        noise, t = torch.randn_like(x0), torch.rand(len(x0))
        tokens, valid = [x.flatten(2).transpose(1, 2) for x in (x0, noise)], torch.ones(len(x0), 4, dtype=torch.bool)
        loss = copying_losses(*model.predict(flow.interpolate(x0, noise, t), t, prefix), *tokens, prefix.copyable, valid).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        x0, prefix = batch(8)
        end = sample(Guided(model, prefix), torch.randn_like(x0), Schedule(12))
    assert float((end - x0).square().mean()) < 0.05


def test_a_condition_that_reads_the_target_cannot_be_copied_from():
    with pytest.raises(QI2Error, match="copy_head"):
        replace(COPYING, attention="full").check()
