"""Drawing and editing: a picture does not depend on its batch, references may have any sizes, and bad input is named."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from qi2.cli import build_parser, main
from qi2.cli.draw import _open
from qi2.config import load
from qi2.core.errors import QI2Error
from qi2.core.reporter import NullReporter
from qi2.enhancer import lm
from qi2.enhancer.config import EnhancerConfig, EnhancerModelConfig, LimitsConfig
from qi2.enhancer.enhance import Enhancer
from qi2.enhancer.sft import train_sft
from qi2.enhancer.triplets import Triplet
from qi2.models.condition import ConditionEncoder
from qi2.models.config import SamplerConfig
from qi2.models.mmdit import MMDiT
from qi2.models.vae import VAE
from qi2.models.vae_config import VAEArchitecture
from qi2.pipeline import Pipeline, grid


@pytest.fixture
def pipe(small_world: Any) -> Pipeline:
    sampler = SamplerConfig(steps=3, guidance=3.0, edit_guidance=2.0, dynamic_shift=True)
    return Pipeline(ConditionEncoder.load(small_world.vlm), MMDiT.load(small_world.model), VAE.load(small_world.vae), sampler, 64)


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    channels = len(mode)
    return Image.fromarray(np.random.default_rng(width).integers(0, 255, (height, width, channels), dtype=np.uint8), mode)


def same(a: Image.Image, b: Image.Image) -> bool:
    return a.size == b.size and int(np.abs(np.asarray(a, int) - np.asarray(b, int)).max()) <= 1


PROMPTS = ["a red circle", "a blue star left of a green square", "two yellow triangles on black", "a cyan cross", "a red star"]


def test_a_picture_does_not_depend_on_its_batch(pipe: Pipeline) -> None:
    together = pipe.generate(PROMPTS, seeds=range(5))
    assert same(together[4], pipe.generate(PROMPTS[4:], seeds=[4])[0])
    assert not same(together[0], pipe.generate(PROMPTS[:1], seeds=[1])[0])


def test_edits_of_any_sizes_and_numbers_of_references_in_one_batch(pipe: Pipeline) -> None:
    groups = [[picture(128, 32)], [picture(64, 64, "RGBA"), picture(50, 120)]]
    together = pipe.edit(["make it red", "put both together"], groups, seeds=[0, 1])
    assert [image.size for image in together] == [(128, 32), (32, 96)]
    for i in range(2):
        assert same(together[i], pipe.edit(["make it red", "put both together"][i : i + 1], groups[i : i + 1], seeds=[i])[0])
    assert pipe.edit(["make it red"], groups[:1], seeds=[0], size=(96, 64))[0].size == (96, 64)


def test_a_negative_prompt_and_guidance_change_the_picture(pipe: Pipeline) -> None:
    plain, unguided, led_away, empty = (
        pipe.generate(PROMPTS[:1], seeds=[0], guidance=scale, negative=negative)[0]
        for scale, negative in ((90.0, None), (1.0, None), (90.0, PROMPTS[1]), (90.0, ""))
    )
    assert not same(plain, unguided)
    assert not same(plain, led_away)
    assert same(plain, empty)


def test_a_vae_with_transparency_reads_and_draws_it(pipe: Pipeline) -> None:
    torch.manual_seed(0)
    size = {"encoder_base": 4, "decoder_base": 4, "encoder_blocks": [1] * 3, "decoder_blocks": [1] * 3}
    pipe.vae = VAE(VAEArchitecture(image_channels=4, patch=4, multipliers=[1, 1, 2], attention=False, **size)).eval()
    torch.nn.init.normal_(pipe.vae.encoder.conv_out.weight, std=0.5)
    clear, opaque = picture(64, 64, "RGBA"), picture(64, 64, "RGBA")
    opaque.putalpha(255)
    edited = [pipe.edit(["make it red"], [[image]], seeds=[0])[0] for image in (clear, opaque)]
    assert edited[0].mode == "RGBA"
    assert not torch.equal(pipe._encode(clear), pipe._encode(opaque))


def test_what_cannot_be_drawn_is_named(pipe: Pipeline) -> None:
    with pytest.raises(QI2Error, match="size 70 is not a multiple of 32 pixels; try 64"):
        pipe.generate(["x"], seeds=[0], size=70)
    with pytest.raises(QI2Error, match="comes with 11 reference images; give one to 10"):
        pipe.edit(["x"], [[picture(64, 64)] * 11], seeds=[0])
    with pytest.raises(QI2Error, match="comes with 0 reference images"):
        pipe.edit(["x"], [[]], seeds=[0])
    with pytest.raises(QI2Error, match="2 prompts came with 1 seeds"):
        pipe.generate(["x", "y"], seeds=[0])
    with pytest.raises(QI2Error, match="1 prompts came with 2 groups of reference images"):
        pipe.edit(["x"], [[picture(64, 64)]] * 2, seeds=[0])
    with pytest.raises(QI2Error, match="prompts is one text, 'xy'; give a list"):
        pipe.generate("xy", seeds=[0, 1])


def test_what_cannot_be_loaded_is_named(small_world: Any, tmp_path: Path) -> None:
    for name, folder in (("sft", small_world.model), ("vae", small_world.vae), ("standins/vlm", small_world.vlm)):
        shutil.copytree(folder, tmp_path / name)
    assert Pipeline.load(tmp_path, dtype="bfloat16").model.proj_out.weight.dtype == torch.bfloat16
    with pytest.raises(QI2Error, match="unknown dtype 'bf16'; choose float32, bfloat16, float16"):
        Pipeline.load(tmp_path, dtype="bf16")
    with pytest.raises(QI2Error, match="unknown device 'gpu'; choose cpu or cuda"):
        Pipeline.load(tmp_path, device="gpu")
    with pytest.raises(QI2Error, match="no device cuda:99 here"):
        Pipeline.load(tmp_path, device="cuda:99")


def test_a_reference_is_read_as_its_camera_turned_it_and_a_broken_one_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held upright
    picture(64, 32).save(tmp_path / "photo.jpg", exif=turned)
    assert _open(str(tmp_path / "photo.jpg")).size == (32, 64)
    (tmp_path / "text.png").write_text("no picture")
    assert main(["edit", str(tmp_path / "text.png"), "make it red"]) == 1
    assert "cannot be read as an image" in capsys.readouterr().err


def test_a_grid_holds_all_pictures(tmp_path: Path) -> None:
    page = grid([picture(64, 32), picture(32, 64), picture(32, 32)], 2)
    assert page.size == (64 * 2 + 4, 64 * 2 + 4)
    assert build_parser().parse_args(["generate", "x", "--size", "96x64"]).size == (96, 64)


@pytest.fixture
def bundle(small_world: Any, tmp_path: Path) -> Path:
    """A bundle whose enhancer knows one rewrite: it learned nothing else."""
    folder = tmp_path / "bundle"
    (folder / "standins").mkdir(parents=True)
    for source, target in ((small_world.vlm, "standins/vlm"), (small_world.vae, "vae"), (small_world.model, "sft")):
        shutil.copytree(source, folder / target)
    (folder / "recipe.yaml").write_text("encode: {sizes: [64]}\nsampler: {steps: 2}\n")
    triplets = [Triplet(str(i), "t2i", "", "general", "crimson ball", "ball is circle", "a red circle on white") for i in range(64)]
    config = load(EnhancerConfig, [{"sft": {"steps": 80, "batch_size": 8, "optimizer": {"name": "muon", "lr": 0.02, "adam_lr": 0.01}}}])
    model, tokenizer = lm.start(EnhancerModelConfig(width=32, layers=1, heads=2, vocabulary=400), ["crimson ball", "a red circle on white"] * 9, 0)
    train_sft(model, tokenizer, triplets, config, 0, NullReporter(), tmp_path, None, {})
    (folder / "enhancer").mkdir()
    Enhancer(model, tokenizer, config.instructions, LimitsConfig(tokens=40)).save(folder / "enhancer")
    return folder


def test_generate_shows_the_rewrite_and_draws_it(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", str(bundle), "--seed", "3", "--out"]
    assert main(["generate", "crimson ball", "--enhance", *options, str(tmp_path / "a.png")]) == 0
    assert "'crimson ball' -> 'a red circle on white'" in capsys.readouterr().err
    assert main(["generate", "a red circle on white", *options, str(tmp_path / "b.png")]) == 0
    assert same(Image.open(tmp_path / "a.png"), Image.open(tmp_path / "b.png"))
    assert main(["generate", "the word HI", "--enhance", *options, str(tmp_path / "c.png")]) == 0
    assert "kept 'the word HI': " in capsys.readouterr().err


def test_a_model_without_an_enhancer_says_so(small_world: Any, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(bundle / "enhancer")
    assert main(["generate", "x", "--enhance", "--model", str(bundle)]) == 1
    assert "holds no prompt enhancer" in capsys.readouterr().err
