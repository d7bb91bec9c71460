"""What several parts' tests share: a small encoded world with an untrained condition encoder, a PCA autoencoder and a random MMDiT."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, one process a core, and torch is not yet imported


@dataclass
class SmallWorld:
    """Folders as the stages write them."""

    vlm: Path
    vae: Path
    encoded: Path
    model: Path


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    """80 images and 24 edits at 64 px, all of which stage 6 keeps."""
    import torch

    from qi2.data.world.palette import ALPHABET
    from qi2.standins.config import VLMConfig
    from qi2.standins.vlm import build_vlm, save_vlm

    folder = tmp_path_factory.mktemp("small_world")
    world = SmallWorld(folder / "vlm", folder / "vae", folder / "encoded", folder / "model")
    torch.manual_seed(0)
    scenes, edits = _scenes(80), _edits(24)
    texts = [text for _, text in scenes] + [edit.instruction for edit in edits] + list(ALPHABET)
    encoder = build_vlm(VLMConfig(vocabulary=400, width=32, layers=1, heads=2, vision_layers=1), texts)
    save_vlm(encoder, world.vlm)
    vae = _pca_vae([scene for scene, _ in scenes])
    vae.save(world.vae)
    _encode(world, encoder, vae, scenes, edits)
    _model(encoder.width).save(world.model)
    return world


def _scenes(n: int) -> list[tuple[Any, str]]:
    from qi2.core.rng import numpy_rng
    from qi2.data.world.captions import captions
    from qi2.data.world.sample import sample_scene
    from qi2.data.world.scene import TINY_KINDS

    draws = [numpy_rng(0, "small/scene", i) for i in range(n)]
    scenes = [sample_scene(draw, TINY_KINDS[i % 5]) for i, draw in enumerate(draws)]
    return [(scene, captions(scene, draw, 1)[0]) for scene, draw in zip(scenes, draws, strict=True)]


def _edits(n: int) -> list[Any]:
    from qi2.core.rng import numpy_rng
    from qi2.data.world.edits import EDIT_KINDS, sample_edit

    return [sample_edit(numpy_rng(0, "small/edit", i), EDIT_KINDS[i % 6]) for i in range(n)]


def _pca_vae(scenes: Sequence[Any]) -> Any:
    from qi2.data.world.render import render
    from qi2.models.pixels import to_tensor
    from qi2.models.vae import VAE
    from qi2.models.vae_config import VAEArchitecture
    from qi2.vae.pca import patch_statistics, start_from_pca

    size = {"encoder_base": 4, "decoder_base": 4, "encoder_blocks": [1] * 3, "decoder_blocks": [1] * 3}
    vae = VAE(VAEArchitecture(patch=4, multipliers=[1, 1, 2], attention=False, linear_skip=True, **size))
    start_from_pca(vae, patch_statistics([to_tensor([render(scene, 64) for scene in scenes])], 16), 0.0, 0.02, 0)
    return vae.eval().requires_grad_(False)


def _encode(world: SmallWorld, encoder: Any, vae: Any, scenes: Sequence[tuple[Any, str]], edits: Sequence[Any]) -> None:
    import pandas as pd
    import torch

    from qi2.data.world.render import render
    from qi2.models.condition import ConditionEncoder
    from qi2.models.pixels import to_tensor
    from qi2.models.vae import VAE
    from qi2.training.encoded import FEATURES, latent_writer, write
    from qi2.training.pictures import features_of
    from qi2.training.versions import versions

    pictures = [render(scene, 64) for scene, _ in scenes]
    rows = [{"id": f"t{i}", "task": "t2i", "kind": scene.kind, "image": i, "reference_images": []} for i, (scene, _) in enumerate(scenes)]
    prompts, references = ["", *(text for _, text in scenes)], [[] for _ in range(1 + len(scenes))]
    for i, edit in enumerate(edits):
        first = len(pictures)
        pictures += [render(scene, 64) for scene in (*edit.references, edit.target)]
        used = list(range(first, len(pictures) - 1))
        rows.append({"id": f"e{i}", "task": "ti2i", "kind": edit.kind, "image": len(pictures) - 1, "reference_images": used})
        prompts.append(edit.instruction)
        references.append([pictures[k] for k in used])
    rows = [{**row, "stages": [6], "side": 64, "prompts_64": [i + 1]} for i, row in enumerate(rows)]
    folder = world.encoded
    folder.mkdir()
    with torch.no_grad():
        write(folder, pd.DataFrame(rows), encoder.encode(prompts, references), versions(VAE.load(world.vae), ConditionEncoder.load(world.vlm)))
        latents = latent_writer(folder, 64, 64, [(4, 4)] * len(pictures))
        for i, values in enumerate(vae.encode(to_tensor(pictures))):
            latents.put(i, values)
    features = latent_writer(folder, 64, encoder.vision_width, [(4, 4)] * len(pictures), FEATURES)
    for i, values in enumerate(features_of(encoder, pictures)):
        features.put(i, values)


def _model(context_width: int) -> Any:
    import torch

    from qi2.models.config import MMDiTConfig
    from qi2.models.mmdit import MMDiT

    torch.manual_seed(1)
    model = MMDiT(MMDiTConfig(layers=2, width=32, heads=2, context_width=context_width, rope_axes=[4, 6, 6], image_shortcut=True))
    torch.nn.init.normal_(model.proj_out.weight, std=0.1)
    return model
