"""Builds a run folder of untrained models (and a VAE at its PCA start), as the stages would publish them."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from qi2.core.publish import publish
from qi2.data.config import DataConfig
from qi2.data.world.captions import structured_caption
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.enhancer import lm
from qi2.enhancer.config import EnhancerConfig, EnhancerModelConfig, LimitsConfig
from qi2.enhancer.enhance import Enhancer
from qi2.evaluation.config import EvaluateConfig
from qi2.evaluation.suites.world import edit_suite, t2i_suite
from qi2.models.config import MMDiTConfig, SamplerConfig
from qi2.models.mmdit import MMDiT
from qi2.models.pixels import to_tensor
from qi2.models.vae import VAE
from qi2.models.vae_config import VAEArchitecture
from qi2.standins.config import StandinsConfig, VLMConfig
from qi2.standins.vlm import build_vlm, save_vlm
from qi2.vae.pca import patch_statistics, start_from_pca

EVALUATE = EvaluateConfig(
    size=64, prompts_per_kind=2, edits_per_kind=1, vae_world=20, vae_photos=4, photo_size=64,
    steps=4, chain_steps=3, batch=4, resamples=200, shown=2, tracked=1,
)  # fmt: skip
VLM = VLMConfig(vocabulary=400, width=32, layers=1, heads=2, vision_layers=1)


@dataclass
class Recipe:
    """The part of a recipe that evaluation reads."""

    scale: str = "test"
    seed: int = 3
    evaluate: EvaluateConfig = field(default_factory=lambda: EVALUATE)
    sampler: SamplerConfig = field(default_factory=lambda: SamplerConfig(steps=2, guidance=2.0, edit_guidance=1.0, few_steps=2))
    data: DataConfig = field(default_factory=DataConfig)
    standins: StandinsConfig = field(default_factory=StandinsConfig)
    enhancer: EnhancerConfig = field(default_factory=lambda: EnhancerConfig(evaluate_prompts=3))


def build_run(folder: Path, stages: tuple[str, ...] = ("pretrain", "continual", "sft", "rlhf", "distill")) -> Path:
    """Publish standins, vae and one differently initialised MMDiT per stage."""
    torch.manual_seed(0)
    texts = [item.prompt for item in (*t2i_suite(EVALUATE), *edit_suite(EVALUATE))]
    encoder = build_vlm(VLM, [*texts, *(structured_caption(item.scene) for item in t2i_suite(EVALUATE))])
    with publish(folder / "standins") as staging:
        save_vlm(encoder, staging / "vlm")
    with publish(folder / "vae") as staging:
        pca_vae().save(staging)
        pca_vae().save(staging / "start")
    config = MMDiTConfig(layers=1, width=32, heads=2, context_width=encoder.width, rope_axes=[4, 6, 6], image_shortcut=True)
    for stage in stages:
        model = MMDiT(config)
        torch.nn.init.normal_(model.proj_out.weight, std=0.1)
        with publish(folder / stage) as staging:
            model.save(staging)
    return folder


def build_enhancer(folder: Path) -> None:
    """Publish an untrained prompt enhancer, before and after RL: it falls back to every original."""
    model, tokenizer = lm.start(EnhancerModelConfig(width=32, layers=1, heads=2, vocabulary=400), [item.prompt for item in t2i_suite(EVALUATE)], 0)
    for stage in ("enhancer_sft", "enhancer"):
        with publish(folder / stage) as staging:
            Enhancer(model, tokenizer, {"t2i": "image", "ti2i": "edit"}, LimitsConfig(tokens=8)).save(staging)


def pca_vae() -> VAE:
    """A VAE that reconstructs the world's images by principal components, without training."""
    rng = np.random.default_rng(0)
    kinds = ("one", "two", "count", "relation", "text")
    images = to_tensor([render(sample_scene(rng, kinds[i % 5], split="any"), 64) for i in range(300)])
    vae = VAE(
        VAEArchitecture(
            patch=4,
            encoder_base=4,
            decoder_base=4,
            multipliers=[1, 1, 2],
            encoder_blocks=[1] * 3,
            decoder_blocks=[1] * 3,
            attention=False,
            linear_skip=True,
        )
    )
    start_from_pca(vae, patch_statistics([images], 16), 0.0, 0.02, 0)
    return vae.eval().requires_grad_(False)
