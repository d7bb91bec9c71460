"""The MMDiT: positions as published, and a sample's result does not depend on its batch."""

from dataclasses import replace

import pytest
import torch

from qi2.core.errors import QI2Error
from qi2.models import rope
from qi2.models.attention import Sight
from qi2.models.config import MMDiTConfig
from qi2.models.mmdit import MMDiT
from qi2.models.ragged import Ragged
from qi2.models.sequence import EncodedPrompt, collate

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
    assert condition.positions[-1].tolist() == [7, 7, 7]
    assert condition.target_start.tolist() == [8]
    assert rope.image_positions(8, 3, 3)[0].tolist() == [8, -2, -2]


def test_a_gpu_rotates_as_a_cpu_does():
    """Complex products and real arithmetic, of which each machine takes what it does best."""
    x = torch.randn(3, 5, 2, 16)
    turn = rope.rotation(rope.text_positions(3, 5), rope.frequencies([4, 6, 6], 100.0))
    torch.testing.assert_close(rope.rotate_real(x.unflatten(-1, (-1, 2)), turn).flatten(-2), rope.rotate(x, turn))


SWITCHES = {
    "2.1": {},
    "full attention": {"attention": "full"},
    "condition at t": {"condition_at_zero": False},
    "full attention, condition at t": {"attention": "full", "condition_at_zero": False},
    "no gates": {"gates": False},
    "modulation per block": {"shared_modulation": False},
    "modulation per block, condition at t": {"shared_modulation": False, "condition_at_zero": False},
}
SAMPLES = [
    (prompt(1, 3), [], (2, 2)),
    (prompt(2, 2, None, 5), [latents(3)], (2, 2)),
    (prompt(4, 1, None, 1, None, 4), [latents(5), latents(6, 2, 4)], (2, 2)),
    (prompt(7, 9), [], (4, 2)),
    (prompt(8, 1, None, None, 2), [latents(9), latents(10, 4, 2)], (2, 6)),
]


def velocity(model, samples, x, t):
    return model(x, t, model.encode_condition(collate([p for p, _, _ in samples], [r for _, r, _ in samples])))


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("count", [3, 5])
def test_a_sample_alone_and_in_any_batch_is_the_same(name, count):
    """Unequal prompts, unequal numbers and sizes of references, and (of five) different target sizes in one batch."""
    model, samples = random_model(replace(CONFIG, **SWITCHES[name])), SAMPLES[:count]
    x = [latents(20 + i, *size) for i, (_, _, size) in enumerate(samples)]
    x, t = torch.stack(x) if count == 3 else x, torch.linspace(0.1, 0.9, count)
    with torch.no_grad():
        together = velocity(model, samples, x, t)
        for i, sample in enumerate(samples):
            torch.testing.assert_close(together[i], velocity(model, [sample], x[i][None], t[i : i + 1])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in SWITCHES if name != "2.1"])
def test_every_switch_changes_the_result_and_lets_every_weight_learn(name):
    model = random_model(replace(CONFIG, **SWITCHES[name]))
    plain = random_model()
    if CONFIG.shared_modulation == model.config.shared_modulation:
        plain.load_state_dict(model.state_dict())
        x, t = torch.stack([latents(20 + i) for i in range(3)]), torch.tensor([0.3])
        assert not torch.allclose(velocity(model, SAMPLES[:3], x, t), velocity(plain, SAMPLES[:3], x, t))
    velocity(model, SAMPLES[:3], torch.stack([latents(20 + i) for i in range(3)]), torch.tensor([0.3])).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("kernel", ["dense", "runs", "flex"])
@pytest.mark.parametrize("settings", [{}, {"attention": "full"}])
def test_all_kernels_of_attention_agree(kernel, settings):
    config = replace(CONFIG, **settings)
    plain, other = random_model(config), random_model(replace(config, kernel=kernel))
    x, t = [latents(20 + i, *size) for i, (_, _, size) in enumerate(SAMPLES)], torch.linspace(0.1, 0.9, 5)
    with torch.no_grad():
        for a, b in zip(velocity(plain, SAMPLES, x, t), velocity(other, SAMPLES, x, t), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_kernel_that_does_not_fit_every_batch_is_refused():
    with pytest.raises(QI2Error, match=r"mmdit\.kernel is 'causal'; choose auto, dense, runs, flex"):
        MMDiT(replace(CONFIG, kernel="causal"))


def test_flex_skips_blocks_that_no_query_reads_and_masks_only_those_that_some_do():
    lengths = [300, 520]
    until = torch.tensor([[min(i + 1, n) for i in range(520)] for n in lengths])
    sight = Sight.within(Ragged(lengths), until, torch.device("cpu"), "flex")
    visible = sight.blocks.to_dense()[:, 0].bool()
    wanted = torch.zeros(2, 5, 5, dtype=torch.bool)
    for b in range(2):
        for q in range(5):
            wanted[b, q, : -(-int(until[b, q * 128 : (q + 1) * 128].max()) // 128)] = True
    assert torch.equal(visible, wanted)
    assert sight.blocks.full_kv_num_blocks[1, 0].tolist() == [0, 1, 2, 3, 4]
    assert not bool((visible & ~torch.ones(5, 5).tril().bool()).any())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_finite_and_near(dtype):
    model = random_model()
    x, t = torch.stack([latents(20 + i) for i in range(3)]), torch.tensor([0.1, 0.5, 0.9])
    with torch.no_grad():
        wanted = velocity(model, SAMPLES[:3], x, t)
        half = velocity(model.to(dtype), SAMPLES[:3], x, t)
    assert half.dtype == torch.float32
    assert float((half - wanted).norm() / wanted.norm()) < 0.05
    with torch.no_grad():
        for block in model.blocks:
            block.mlp.out.weight.mul_(3e4)  # beyond what half precision holds
        assert bool(velocity(model, SAMPLES[:3], x, t).isfinite().all())


def test_checkpointing_gives_the_same_gradients():
    gradients = []
    for checkpointing in (False, True):
        model = random_model(replace(CONFIG, checkpointing=checkpointing)).train()
        velocity(model, SAMPLES[:3], torch.stack([latents(20 + i) for i in range(3)]), torch.tensor([0.3])).square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("switch", ["places", "image_shortcut", "copy_head"])
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


def test_the_condition_is_read_and_does_not_depend_on_time():
    model = random_model()
    x, t = torch.randn(1, 64, 2, 2), torch.tensor([0.5])
    with torch.no_grad():
        one, other = (model.encode_condition(collate([prompt(seed, 4)], [[]])) for seed in (1, 2))
        assert not torch.allclose(model(x, t, one), model(x, t, other))
        torch.testing.assert_close(model(x.repeat(3, 1, 1, 1), t.repeat(3), one.repeat(3))[2:], model(x, t, one))


def test_text_is_causal_and_images_are_not():
    condition = collate([prompt(0, 2, None, 1)], [[latents(1)]])
    assert condition.until.tolist() == [1, 2, 6, 6, 6, 6, 7]


def test_saved_and_loaded_models_agree(tmp_path):
    model = random_model()
    model.save(tmp_path)
    again = MMDiT.load(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(QI2Error, match="run the stage"):
        MMDiT.load(tmp_path)


def test_references_must_fit_the_prompt():
    with pytest.raises(QI2Error, match="places for 1 images but 0"):
        collate([prompt(0, 2, None)], [[]])
