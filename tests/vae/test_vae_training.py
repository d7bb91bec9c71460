"""The VAE stage: the PCA start, batches that depend on the step alone, a frozen encoder at the end, the same bytes twice."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from qi2.config import load
from qi2.core import rng
from qi2.core.errors import Interrupted, QI2Error
from qi2.core.publish import file_sha256, verify
from qi2.core.reporter import FileReporter, NullReporter
from qi2.data.shards import Row, ShardWriter, Sidecar
from qi2.data.world.defects import encode_png
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import TINY_KINDS
from qi2.models.pixels import to_tensor
from qi2.models.vae import VAE
from qi2.models.vae_config import VAEArchitecture
from qi2.recipe import Recipe, scale_layers
from qi2.training.config import EngineConfig
from qi2.training.fit import fit
from qi2.vae.config import AlignmentConfig, ImageBatch, PerceptualConfig, VAEConfig
from qi2.vae.data import TrainingImages, recolor, square
from qi2.vae.evaluate import evaluate_vae
from qi2.vae.module import VAEModule, alignment_schedule
from qi2.vae.pca import patch_statistics, principal_components, start_from_pca
from qi2.vae.train import perceptual_features, start, train_vae
from tests.stopping import Stopping

ROOT = Path(__file__).parents[2]
MODEL = {"patch": 16, "multipliers": [1], "kernel": 1, "encoder_base": 16, "decoder_base": 32, "encoder_blocks": [1], "decoder_blocks": [1]}
BATCHES = [ImageBatch("scene", 64, 8, 0.5), ImageBatch("scene", 32, 8, 0.25), ImageBatch("photo", 64, 4, 0.25)]


def settings(**changes: Any) -> VAEConfig:
    values = {"model": MODEL | {"attention": False, "linear_skip": True}, "steps": 6, "statistics_images": 48, "lr": 1e-3, "warmup": 1}
    values |= {"perceptual": {"kind": "none"}, "alignment": {"start": 0.0}, "whitening": 0.5, "gradient_weight": 0.0}
    cfg = load(VAEConfig, [values | changes])
    cfg.batches = BATCHES
    return cfg


def scene_row(index: int, split: str) -> Row:
    scene = sample_scene(rng.numpy_rng(0, "test", index), TINY_KINDS[index % 5], "any")
    return Row(f"scene-{index:03d}", encode_png(render(scene, 64)), "png", ("a",), kind=scene.kind, split=split, scene=scene.to_json())


def photo_row(index: int, split: str) -> Row:
    noise = rng.numpy_rng(0, "photo", index).integers(0, 255, (6, 6, 3)).astype(np.uint8)
    image = Image.fromarray(noise).resize((90, 70), Image.Resampling.BICUBIC)
    return Row(f"photo-{index:03d}", encode_png(image), "png", ("a",), source="photo", kind="photo", split=split)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Raw shards of 60 scenes and 12 photographs, and curated tables that keep them all."""
    raw, curated = (tmp_path_factory.mktemp(name) for name in ("raw", "curated"))
    with ShardWriter(raw) as writer:
        for index in range(60):
            writer.add(scene_row(index, "heldout" if index % 4 == 0 else "train"))
        for index in range(12):
            writer.add(photo_row(index, "heldout" if index % 4 == 0 else "train"))
    table = Sidecar.load(raw).table
    table[table["source"] == "world"].to_parquet(curated / "stage1.parquet")
    table.to_parquet(curated / "stage2.parquet")
    return raw, curated


@pytest.fixture(scope="module")
def images(folders: tuple[Path, Path]) -> TrainingImages:
    table = Sidecar.load(folders[0]).table
    return TrainingImages(folders[0], table[table["split"] == "train"], BATCHES, 0, recolor=0.5)


def test_a_batch_depends_on_the_step_alone(images: TrainingImages) -> None:
    later = [images.batch(step) for step in (5, 3)][1]
    assert torch.equal(images.batch(3), later)
    assert {tuple(images.batch(step).shape) for step in range(30)} == {(8, 3, 64, 64), (8, 3, 32, 32), (4, 3, 64, 64)}
    assert all(images.batch(step).abs().max() <= 1 for step in range(5))


def test_recolouring_keeps_shapes_and_leaves_the_others_alone() -> None:
    batch = torch.rand(40, 3, 4, 4) * 2 - 1
    changed = recolor(batch, 0.5, np.random.default_rng(0))
    same = (changed == batch).flatten(1).all(1)
    assert 8 < same.sum() < 32
    flat = torch.full((4, 3, 4, 4), 0.25)
    assert recolor(flat, 1.0, np.random.default_rng(0)).flatten(2).std(2).max() < 1e-6


def test_photographs_are_cropped_and_scenes_are_shown_whole() -> None:
    image = Image.new("RGB", (100, 60))
    assert square(image, 64, np.random.default_rng(0)).size == (64, 64)
    assert square(image, 32, None).size == (32, 32)


def test_unknown_and_empty_pools_are_named(images: TrainingImages, folders: tuple[Path, Path]) -> None:
    table = Sidecar.load(folders[0]).table
    with pytest.raises(QI2Error, match="no pool 'faces'"):
        TrainingImages(folders[0], table, [ImageBatch("faces")], 0)
    with pytest.raises(QI2Error, match="name no pool that has images"):
        TrainingImages(folders[0], table, [ImageBatch("rich")], 0)


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_the_start_is_pca_whatever_the_whitening(images: TrainingImages, whitening: float) -> None:
    cfg = settings(whitening=whitening)
    sample = images.sample(40)
    statistics = patch_statistics(sample, 16)
    vae = start(cfg, sample, 0)
    directions, _ = principal_components(statistics, 64)
    batch = images.batch(0)
    patches = torch.nn.functional.pixel_unshuffle(batch, 16).movedim(1, -1).flatten(0, -2).double()
    offset = statistics.colour.repeat_interleave(256)
    expected = ((patches - offset) @ directions.mT @ directions + offset).float()
    decoded = vae.reconstruct(vae.posterior(batch)[0])
    assert torch.allclose(torch.nn.functional.pixel_unshuffle(decoded, 16).movedim(1, -1).flatten(0, -2), expected, atol=2e-3)
    latents = torch.cat([vae.encode(part).transpose(0, 1).flatten(1) for part in sample], 1)
    assert latents.mean(1).abs().max() < 1e-3
    assert (latents.std(1) - 1).abs().max() < 1e-2
    assert vae.latent_std.max() / vae.latent_std.min() < 3  # the rotation spreads the strong components over all channels


def test_pca_needs_images_and_a_linear_skip() -> None:
    with pytest.raises(QI2Error, match="no training images"):
        patch_statistics([], 16)
    with pytest.raises(QI2Error, match="linear_skip"):
        plain = VAE(settings(model=MODEL | {"linear_skip": False}).model)
        start_from_pca(plain, patch_statistics([torch.rand(2, 3, 32, 32)], 16), 0.0, 0.02, 0)


def test_alignment_is_strong_first_and_then_relaxes() -> None:
    cfg = AlignmentConfig(start=0.5, end=0.1, relax_share=0.2, distance_margin=0.25, cosine_margin=0.5)
    assert alignment_schedule(0.0, cfg) == (0.5, 0.0, 0.0)
    assert alignment_schedule(1.0, cfg) == pytest.approx((0.1, 0.25, 0.5))
    weights = [alignment_schedule(p / 10, cfg)[0] for p in range(11)]
    assert weights == sorted(weights, reverse=True)
    assert alignment_schedule(0.8, cfg)[1:] == pytest.approx((0.0, 0.0))
    assert alignment_schedule(0.9, cfg)[1:] == pytest.approx((0.125, 0.25))


def tower(batch: torch.Tensor) -> list[torch.Tensor]:
    """Features to align with: the mean colours of quarters of patches."""
    return [torch.nn.functional.pixel_unshuffle(torch.nn.functional.avg_pool2d(batch, 8), 2)]


def test_training_aligns_and_then_freezes_the_encoder(images: TrainingImages) -> None:
    alignment = {"start": 0.5, "end": 0.1, "adapt_every": 2}
    cfg = settings(steps=40, refine_share=0.25, alignment=alignment, perceptual={"kind": "teacher", "weight": 0.05})
    module = VAEModule(start(cfg, images.sample(48), 0), images, cfg, 0, tower, tower)
    first = {name: p.detach().clone() for name, p in module.vae.named_parameters()}
    frozen: dict[str, torch.Tensor] = {}

    def keep_at_the_switch(*_: Any) -> None:
        if module.steps_done == module.encoder_steps:
            frozen.update({name: p.detach().clone() for name, p in module.vae.named_parameters()})

    module.on_train_batch_end = keep_at_the_switch  # type: ignore[method-assign]
    curves = FileReporter(folder_of(images) / "curves")
    fit(module, "vae", curves)
    rows = [line.split(",") for line in (curves.folder / "curves.csv").read_text().splitlines()]
    distance = [float(value) for _, name, value in rows[1:] if name == "vae/distance"]
    assert distance[module.encoder_steps - 1] < 0.7 * distance[0]
    changed = {name for name, p in module.vae.named_parameters() if not torch.equal(p, first[name])}
    changed_late = {name for name, p in module.vae.named_parameters() if not torch.equal(p, frozen[name])}
    assert any(name.startswith("encoder.") for name in changed)
    assert not any(name.startswith(("encoder.", "linear_")) for name in changed_late)
    assert any(name.startswith("decoder.") for name in changed_late)


@pytest.mark.parametrize("scale", ["smoke", "tiny", "small", "report"])
def test_every_scale_names_a_network_to_compare_images_by(scale: str) -> None:
    recipe = load(Recipe, scale_layers(ROOT / "conf", scale))
    assert perceptual_features(recipe.vae.perceptual, tower) is tower


class Compared(torch.nn.Module):
    """Stands for a vision model of transformers: its hidden states are on the device of its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, pixel_values: torch.Tensor, **_: Any) -> Any:
        assert pixel_values.device == self.weight.device
        return SimpleNamespace(hidden_states=[torch.ones(len(pixel_values), 5, 3, device=self.weight.device)])


def test_a_vision_model_goes_to_the_images_that_it_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", lambda _: Compared())
    features = perceptual_features(PerceptualConfig("vision", "somewhere"), None)
    assert features is not None
    assert features(torch.zeros(2, 3, 32, 32, device="meta"))[0].device.type == "meta"
    assert features(torch.zeros(2, 3, 32, 32, device="meta"))[0].shape == (2, 3, 2, 2)


def folder_of(images: TrainingImages) -> Path:
    """A folder of this test session beside the shards."""
    return images.raw.parent


def test_training_beats_the_pca_start(images: TrainingImages) -> None:
    cfg = settings(steps=80, refine_share=1.0, lr=2e-3)
    vae = start(cfg, images.sample(48), 0)
    batches = [batch for batch in (images.batch(step) for step in range(1000, 1020)) if len(batch) == 8]

    @torch.no_grad()
    def error() -> float:
        return float(np.mean([(vae.decode(vae.encode(b)) - b).abs().mean().item() for b in batches]))

    before = error()
    fit(VAEModule(vae, images, cfg, 0, None, None), "vae", NullReporter())
    assert error() < 0.95 * before


def test_the_linear_skip_trains_when_it_has_a_rate(images: TrainingImages) -> None:
    cfg = settings(steps=2, linear_lr=1e-4, refine_share=0.0)
    vae = start(cfg, images.sample(48), 0)
    assert vae.linear_in is not None
    before = vae.linear_in.weight.detach().clone()
    fit(VAEModule(vae, images, cfg, 0, None, None), "vae", NullReporter())
    assert not torch.equal(vae.linear_in.weight, before)


def test_the_published_layout_trains_with_transparency_and_leaves_its_time_convolutions_alone(images: TrainingImages) -> None:
    layout = {
        "patch": 1,
        "multipliers": [1, 1, 1, 1, 1],
        "kernel": 3,
        "encoder_base": 4,
        "decoder_base": 4,
        "encoder_blocks": [1] * 5,
        "decoder_blocks": [1] * 5,
    }
    layout |= {"image_channels": 4, "temporal_stages": [False, True, True, True], "normalisation": "l2", "quant_convs": True}
    cfg = settings(model=layout, steps=2, refine_share=0.0, alignment={"start": 0.5}, perceptual={"kind": "teacher", "weight": 0.05})
    vae = start(cfg, images.sample(8), 0)
    before = {name: p.detach().clone() for name, p in vae.named_parameters()}
    fit(VAEModule(vae, images, cfg, 0, tower, tower), "vae", NullReporter())
    same = {name for name, p in vae.named_parameters() if torch.equal(p, before[name])}
    assert {name for name in before if "time_conv" in name} <= same
    assert not {"quant_conv.weight", "post_quant_conv.weight", "decoder.conv_out.weight"} & same


def test_two_runs_publish_the_same_bytes(folders: tuple[Path, Path], tmp_path: Path) -> None:
    cfg = SimpleNamespace(vae=settings(steps=4), seed=3, engine=EngineConfig())
    for name in ("one", "two"):
        metrics = train_vae(cfg, *folders, tmp_path / "standins", tmp_path / name, NullReporter())
    hashes = [file_sha256(tmp_path / name / "model.safetensors") for name in ("one", "two")]
    assert hashes[0] == hashes[1]
    assert {"config.json", "model.safetensors", "metrics.json", "curves.csv", "reconstructions.png", "start/model.safetensors"} <= set(verify(tmp_path / "one"))
    assert json.loads((tmp_path / "one" / "metrics.json").read_text()) == metrics
    assert {"vae/psnr_world", "vae/psnr_world_pca", "vae/ceiling_world", "vae/ssim_photo", "vae/ceiling_world_32"} <= set(metrics)


@pytest.mark.parametrize("at", [2, 4])
def test_training_stopped_before_or_after_the_switch_publishes_the_same_bytes(folders: tuple[Path, Path], tmp_path: Path, at: int) -> None:
    cfg = SimpleNamespace(vae=settings(steps=6, refine_share=0.5, ema=0.9), seed=3, engine=EngineConfig())

    def run(name: str, reporter: NullReporter) -> dict[str, str]:
        train_vae(cfg, *folders, tmp_path / "standins", tmp_path / name, reporter, tmp_path / f"{name}.checkpoints")
        return verify(tmp_path / name)

    whole = run("whole", NullReporter())
    with pytest.raises(Interrupted):
        run("stopped", Stopping(at))
    assert run("stopped", NullReporter()) == whole


def test_a_trained_vae_is_measured_and_handed_on_untouched(folders: tuple[Path, Path], tmp_path: Path) -> None:
    trained = VAE(VAEArchitecture(patch=4, multipliers=[1, 1, 2], encoder_base=4, decoder_base=4, encoder_blocks=[1] * 3, decoder_blocks=[1] * 3))
    trained.latent_mean.fill_(0.25)
    trained.save(tmp_path / "given")
    cfg = SimpleNamespace(vae=settings(path=str(tmp_path / "given")), seed=3)
    metrics = train_vae(cfg, *folders, tmp_path / "standins", tmp_path / "out", NullReporter())
    assert file_sha256(tmp_path / "out" / "model.safetensors") == file_sha256(tmp_path / "given" / "model.safetensors")
    assert {"vae/psnr_world", "vae/ssim_photo", "vae/encoder_parameters"} <= set(metrics)


def test_figures_come_per_image(folders: tuple[Path, Path], images: TrainingImages) -> None:
    vae = start(settings(), images.sample(48), 0).eval()
    pictures = [square(Sidecar.load(folders[0]).image(f"photo-{i:03d}"), 64, None) for i in range(3)]
    figures = evaluate_vae(vae, pictures)
    assert figures["psnr"].shape == figures["ssim"].shape == (3,)
    decoded = vae.decode(vae.encode(to_tensor(pictures)))
    error = ((decoded - to_tensor(pictures)) * 127.5).square().flatten(1).mean(1)
    assert np.allclose(figures["psnr"], 10 * np.log10(255**2 / error.detach().numpy()), atol=0.1)
