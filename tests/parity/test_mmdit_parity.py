"""The MMDiT against diffusers' QwenImage21Transformer2DModel: the same numbers and gradients from the same weights."""

from dataclasses import replace

import pytest
import torch

from qi2.models.config import MMDiTConfig
from qi2.models.mmdit import MMDiT
from qi2.models.mmdit_diffusers import config_to_diffusers, module_names, rename
from qi2.models.sequence import EncodedPrompt, collate

diffusers = pytest.importorskip("diffusers")
CONFIG = MMDiTConfig(layers=3, width=48, heads=3, latent_channels=8, context_width=12, rope_axes=[4, 6, 6])
SLOT = 2  # latent tokens per side of a vision slot


def twins(config=CONFIG):
    """Our network and theirs with the same random weights."""
    torch.manual_seed(0)
    ours = MMDiT(config)
    for p in ours.parameters():
        torch.nn.init.normal_(p, std=0.2)
    settings = {name: value for name, value in config_to_diffusers(config).items() if not name.startswith("_")}
    theirs = diffusers.QwenImage21Transformer2DModel(**settings)
    theirs.load_state_dict(rename(ours.state_dict(), module_names(config.layers), "ours"))
    return ours, theirs


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Sample:
    """One sample in both forms: ``layout`` as in EncodedPrompt, reference sizes and the target's in latent tokens."""

    def __init__(self, layout, references, target, seed):
        self.text = draw(sum(n for n in layout if n), CONFIG.context_width, seed=seed)
        self.references = [draw(CONFIG.latent_channels, *size, seed=seed + 10 + i) for i, size in enumerate(references)]
        self.prompt = EncodedPrompt(self.text, layout)
        self.x = draw(CONFIG.latent_channels, *target, seed=seed + 50)

    def theirs(self, model, t, **options):
        """Their whole forward pass on this sample alone."""
        sizes = [x.shape[1:] for x in [*self.references, self.x]]
        states, mask, at, images = [], [], 0, iter(sizes)
        for run in self.prompt.layout:
            n = run if run is not None else next(images).numel() // SLOT**2
            states.append(self.text[at : at + n] if run is not None else torch.zeros(n, CONFIG.context_width))
            at += n if run is not None else 0
            mask += [run is None] * n
        slots = [True] * (self.x[0].numel() // SLOT**2)
        tokens = torch.cat([x.flatten(1).T for x in [*self.references, self.x]])[None]
        out = model(tokens, torch.cat(states)[None], t, [[(1, *s) for s in sizes]], torch.tensor([mask + slots]), return_dict=False, **options)[0]
        return out[0, -self.x[0].numel() :].T.unflatten(1, self.x.shape[1:])


SAMPLES = {
    "text to image": Sample([5], [], (4, 6), 1),
    "one reference": Sample([3, None, 4], [(4, 2)], (4, 4), 2),
    "two references": Sample([1, None, 2, None, 6], [(2, 4), (4, 4)], (6, 2), 3),
    "adjacent references": Sample([2, None, None, 3], [(2, 2), (4, 2)], (2, 2), 4),
}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("at_zero", [True, False])
def test_a_sample_gives_the_same_velocity(name, at_zero):
    """The condition at t = 0 (cached here) and at the target's time (one joint pass)."""
    ours, theirs = twins(replace(CONFIG, condition_at_zero=at_zero))
    sample, t = SAMPLES[name], torch.tensor([0.7])
    with torch.no_grad():
        velocity = ours(sample.x[None], t, ours.encode_condition(collate([sample.prompt], [sample.references])))[0]
        torch.testing.assert_close(velocity, sample.theirs(theirs, t), rtol=1e-4, atol=2e-5)


def test_their_cached_steps_give_the_same_velocity():
    from diffusers.models.transformers.transformer_qwenimage21 import QwenImage21KVCache

    ours, theirs = twins()
    sample, cache = SAMPLES["two references"], QwenImage21KVCache(CONFIG.layers)
    with torch.no_grad():
        prefix = ours.encode_condition(collate([sample.prompt], [sample.references]))
        for mode, t in (("extract", 0.9), ("cached", 0.6), ("cached", 0.1)):
            step = sample.theirs(theirs, torch.tensor([t]), kv_cache=cache, kv_cache_mode=mode)
            torch.testing.assert_close(ours(sample.x[None], torch.tensor([t]), prefix)[0], step, rtol=1e-4, atol=2e-5)


def test_all_samples_in_one_batch_give_what_theirs_gives_for_each_alone():
    """Unequal prompts, numbers and sizes of references and targets: their batches cannot hold these, ours are exact."""
    ours, theirs = twins()
    samples, t = list(SAMPLES.values()), torch.tensor([0.2, 0.4, 0.6, 0.8])
    with torch.no_grad():
        together = ours([s.x for s in samples], t, ours.encode_condition(collate([s.prompt for s in samples], [s.references for s in samples])))
        for i, sample in enumerate(samples):
            torch.testing.assert_close(together[i], sample.theirs(theirs, t[i : i + 1]), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_of_all_weights_are_the_same(checkpointing):
    ours, theirs = twins(replace(CONFIG, checkpointing=checkpointing))
    sample, t = SAMPLES["two references"], torch.tensor([0.7])
    ours(sample.x[None], t, ours.encode_condition(collate([sample.prompt], [sample.references]))).square().mean().backward()
    sample.theirs(theirs, t).square().mean().backward()
    wanted = rename({name: p.grad for name, p in ours.named_parameters()}, module_names(CONFIG.layers), "ours")
    for name, p in theirs.named_parameters():
        torch.testing.assert_close(wanted[name], p.grad, rtol=1e-3, atol=1e-6 + 1e-4 * float(p.grad.abs().max()), msg=lambda text, name=name: f"{name}: {text}")


def test_the_report_scale_counts_as_theirs():
    config = MMDiTConfig(layers=32, width=4096, heads=32, context_width=4096, rope_axes=[16, 56, 56])
    with torch.device("meta"):
        ours = MMDiT(config)
        theirs = diffusers.QwenImage21Transformer2DModel()
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters()) == 7_115_124_736
    shapes = {name: tensor.shape for name, tensor in rename(ours.state_dict(), module_names(32), "ours").items()}
    assert shapes == {name: tensor.shape for name, tensor in theirs.state_dict().items()}
