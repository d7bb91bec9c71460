"""The MMDiT: positions as published, and a sample's result does not depend on its batch."""

from dataclasses import replace

import pytest
import torch

from qi2.core.errors import QI2Error
from qi2.models import rope
from qi2.models.condition import EncodedPrompt, collate
from qi2.models.config import MMDiTConfig
from qi2.models.mmdit import MMDiT

CONFIG = MMDiTConfig(layers=2, width=32, heads=2, context_width=8, rope_axes=[4, 6, 6], rope_theta=100.0)


def random_model(config=CONFIG):
    torch.manual_seed(0)
    model = MMDiT(config).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return model


def prompt(seed, *layout):
    n = sum(run for run in layout if run)
    return EncodedPrompt(torch.randn(n, 8, generator=torch.Generator().manual_seed(seed)), list(layout))


def latents(seed, h=2, w=2):
    return torch.randn(64, h, w, generator=torch.Generator().manual_seed(seed))


def test_positions_of_the_published_example():
    """2 text, 2x4 image, 2 text, 3x3 target (reference: Qwen-Image-2.1's rule)."""
    assert rope.text_positions(0, 2).tolist() == [[0, 0, 0], [1, 1, 1]]
    assert rope.image_positions(2, 2, 4)[:3].tolist() == [[2, -1, -2], [2, -1, -1], [2, -1, 0]]
    condition = collate([prompt(0, 2, None, 2)], [[latents(1, 2, 4)]])
    assert condition.positions[0, -1].tolist() == [7, 7, 7]
    assert condition.target_start.tolist() == [8]
    assert rope.image_positions(8, 3, 3)[0].tolist() == [8, -2, -2]


def test_a_sample_alone_and_in_any_batch_is_the_same():
    """Unequal prompts and unequal numbers and sizes of references in one batch."""
    model = random_model()
    samples = [(prompt(1, 3), []), (prompt(2, 2, None, 5), [latents(3)]), (prompt(4, 1, None, 1, None, 4), [latents(5), latents(6, 2, 4)])]
    x, t = torch.randn(3, 64, 2, 2), torch.tensor([0.2, 0.5, 0.9])
    with torch.no_grad():
        together = model(x, t, model.encode_condition(collate([p for p, _ in samples], [r for _, r in samples])))
        for i, (p, r) in enumerate(samples):
            alone = model(x[i : i + 1], t[i : i + 1], model.encode_condition(collate([p], [r])))
            torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("switch", ["places", "image_shortcut"])
def test_switches_keep_a_sample_independent_of_its_batch_and_change_the_result(switch):
    plain, model = random_model(), random_model(replace(CONFIG, **{switch: True}))
    model.load_state_dict(plain.state_dict(), strict=False)
    condition = collate([prompt(1, 2, None, 3), prompt(2, 4)], [[latents(3)], []])
    alone = collate([prompt(1, 2, None, 3)], [[latents(3)]])
    x, t = torch.randn(2, 64, 2, 2), torch.tensor([0.3, 0.7])
    with torch.no_grad():
        together = model(x, t, model.encode_condition(condition))
        torch.testing.assert_close(together[:1], model(x[:1], t[:1], model.encode_condition(alone)), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(together[:1], plain(x[:1], t[:1], plain.encode_condition(alone)))


def test_the_last_block_gives_the_keys_and_values_of_its_whole_pass():
    model = random_model()
    block, x, modulation = model.blocks[-1], torch.randn(2, 5, 32), torch.randn(2, 1, 128)
    angles = model._angles(rope.text_positions(0, 5).expand(2, -1, -1))
    with torch.no_grad():
        _, *whole = block(x, modulation, angles, torch.ones(2, 1, 5, 5, dtype=torch.bool), None)
        for a, b in zip(whole, block.kv(x, modulation, angles), strict=True):
            torch.testing.assert_close(a, b)


def test_the_condition_is_read_and_does_not_depend_on_time():
    model = random_model()
    x, t = torch.randn(1, 64, 2, 2), torch.tensor([0.5])
    with torch.no_grad():
        one, other = (model.encode_condition(collate([prompt(seed, 4)], [[]])) for seed in (1, 2))
        assert not torch.allclose(model(x, t, one), model(x, t, other))
        torch.testing.assert_close(model(x.repeat(3, 1, 1, 1), t.repeat(3), one.repeat(3))[2:], model(x, t, one))


def test_text_is_causal_and_images_are_not():
    condition = collate([prompt(0, 2, None, 1)], [[latents(1)]])
    mask = condition.mask[0]
    assert not mask[0, 1]
    assert mask[2, 5]  # first image token sees the last
    assert not mask[2, 6]


def test_saved_and_loaded_models_agree(tmp_path):
    model = random_model()
    model.save(tmp_path)
    again = MMDiT.load(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(QI2Error, match="run the stage"):
        MMDiT.load(tmp_path)


def test_report_scale_has_the_published_size():
    with torch.device("meta"):
        model = MMDiT(MMDiTConfig(layers=32, width=4096, heads=32, context_width=4096, rope_axes=[16, 56, 56]))
    assert sum(p.numel() for p in model.parameters()) == 7_115_124_736


def test_references_must_fit_the_prompt():
    with pytest.raises(QI2Error, match="places for 1 images but 0"):
        collate([prompt(0, 2, None)], [[]])
