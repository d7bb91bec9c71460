"""The encoded folder: aspect buckets, nothing enlarged, latents read from a memory map, and honest about what it was made with."""

import io
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from qi2.core.errors import QI2Error
from qi2.core.reporter import NullReporter
from qi2.data.shards import Row, ShardWriter
from qi2.data.world.defects import encode_png
from qi2.models.condition import ConditionEncoder
from qi2.models.mmdit import MMDiT
from qi2.models.pixels import to_tensor
from qi2.models.vae import VAE
from qi2.recipe import Recipe
from qi2.training.config import EncodeConfig
from qi2.training.encode import encode
from qi2.training.encoded import EncodedSet
from qi2.training.flat import LatentStore, LatentWriter
from qi2.training.mixture import Part, add_noise, supervised_losses
from qi2.training.pictures import cover
from qi2.training.versions import check

PICTURES = {"square": (64, 64), "wide": (192, 96), "tall": (70, 150), "large": (128, 128), "small": (40, 40)}


@pytest.fixture(scope="module")
def encoded(small_world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of several shapes, and an edit of the large one whose second reference is small; at 32, 64 and 128 px."""
    folder = tmp_path_factory.mktemp("sets")
    for stage in range(1, 7):
        with ShardWriter(folder / f"s{stage}") as shards:
            for name, size in PICTURES.items():
                shards.add(Row(name, picture(size), "png", (f"a {name}",), kind="one"))
            shards.add(Row("edit", picture((128, 128)), "png", ("make it blue",), task="ti2i", kind="recolor", references=("large", "small")))
    settings = Recipe(encode=EncodeConfig(sizes=[32, 64, 128], captions=1))
    encode(settings, folder, small_world.vlm, small_world.vae, folder / "encoded", NullReporter())
    return folder / "encoded"


def picture(size: tuple[int, int]) -> bytes:
    return encode_png(Image.fromarray(np.random.default_rng(size).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)))


def sample(data: EncodedSet, name: str, size: int) -> Any:
    row = data.rows["id"].tolist().index(name)
    return data.sample(row, size, np.random.default_rng(0))


def test_every_picture_lies_in_its_aspect_bucket(encoded: Path) -> None:
    data = EncodedSet(encoded)
    found = {name: tuple(16 * n for n in sample(data, name, 64).target.shape[:0:-1]) for name in ("square", "wide", "tall", "large")}
    assert found == {"square": (64, 64), "wide": (96, 32), "tall": (32, 128), "large": (64, 64)}


def test_latents_are_those_of_the_picture_cut_to_its_bucket(encoded: Path, small_world: Any) -> None:
    whole = Image.open(io.BytesIO(picture(PICTURES["wide"])))
    box = cover(whole, (96, 32))
    assert np.array_equal(np.asarray(box), np.asarray(whole.crop((0, 16, 192, 80)).resize((96, 32), Image.Resampling.BOX)))
    expected = VAE.load(small_world.vae).encode(to_tensor([box]))[0]
    torch.testing.assert_close(sample(EncodedSet(encoded), "wide", 64).target, expected.half().float(), atol=2e-3, rtol=1e-2)


def test_no_picture_is_enlarged(encoded: Path) -> None:
    data = EncodedSet(encoded)
    assert dict(zip(data.rows["id"], data.rows["side"], strict=True)) == {"edit": 128, "large": 128, "small": 32, "square": 64, "tall": 64, "wide": 64}
    rows = data.plan_rows(1, [64, 128], 0.3)
    assert {size: sorted(data.rows["id"][rows.index[ready]]) for size, ready in rows.ready.items()} == {
        64: ["edit", "large", "square", "tall", "wide"],
        128: ["edit", "large"],
    }
    large, small = sample(data, "edit", 128).references
    assert (large.shape, small.shape) == ((64, 8, 8), (64, 2, 2))
    with pytest.raises(QI2Error, match="small was not encoded at 64 px"):
        sample(data, "small", 64)


def test_an_edit_of_two_images_stands_in_a_batch_with_t2i(encoded: Path, small_world: Any) -> None:
    data, model = EncodedSet(encoded), MMDiT.load(small_world.model)
    samples = [sample(data, "wide", 64), sample(data, "edit", 64), sample(data, "square", 64)]
    parts = [Part(64, chosen, [False] * len(chosen), numbers) for chosen, numbers in ((samples, np.arange(3)), (samples[1:2], np.array([1])))]
    mixed, alone = (supervised_losses(model, data, part, add_noise(part, 0.0, 1.0, 0, "x", torch.device("cpu"))) for part in parts)
    assert [len(own.references) for own in samples] == [0, 2, 0]
    torch.testing.assert_close(mixed[1:2], alone)


def test_edits_that_were_not_encoded_at_a_size_of_a_stage_are_named(encoded: Path, tmp_path: Path) -> None:
    shutil.copytree(encoded, tmp_path / "copy")
    rows = pd.read_parquet(tmp_path / "copy" / "rows.parquet")
    rows["prompts_64"] = [[] if task == "ti2i" else list(own) for task, own in zip(rows["task"], rows["prompts_64"], strict=True)]
    rows.to_parquet(tmp_path / "copy" / "rows.parquet")
    data = EncodedSet(tmp_path / "copy")
    assert data.version != EncodedSet(encoded).version
    with pytest.raises(QI2Error, match="add 64 to encode.edit_sizes"):
        data.plan_rows(1, [64], 0.3)


def test_latents_are_read_from_the_file_and_equal_what_was_written(tmp_path: Path) -> None:
    shapes = [(2, 3), (0, 0), (4, 4), (1, 6)]
    latents = [torch.randn(5, *shape).half() for shape in shapes]
    writer = LatentWriter(tmp_path / "x.safetensors", 5, shapes)
    for i in (3, 0, 2):
        writer.put(i, latents[i].float())
    del writer
    store = LatentStore(tmp_path / "x.safetensors")
    assert isinstance(store.tokens, np.memmap)
    assert [store.has(i) for i in range(4)] == [True, False, True, True]
    assert all(torch.equal(store[i], latents[i].float()) for i in (0, 2, 3))
    whole = load_file(tmp_path / "x.safetensors")["tokens"]
    assert torch.equal(whole, torch.cat([x.flatten(1).T for x in latents]))
    handed_over = pickle.dumps(store)
    assert len(handed_over) < 500
    assert torch.equal(pickle.loads(handed_over)[2], store[2])


def test_samples_of_another_vae_or_encoder_are_refused_by_name(encoded: Path, small_world: Any, tmp_path: Path) -> None:
    vae, encoder = VAE.load(small_world.vae), ConditionEncoder.load(small_world.vlm)
    check(encoded, vae, encoder)
    vae.cfg = replace(vae.cfg, checkpointing=True)
    check(encoded, vae, None)
    vae.latent_mean[0] += 1
    with pytest.raises(QI2Error, match="another vae than"):
        check(encoded, vae, encoder)
    encoder.model.model.language_model.embed_tokens.weight.data[0, 0] += 1
    with pytest.raises(QI2Error, match="another vae, condition encoder than"):
        check(encoded, vae, encoder)
    with pytest.raises(QI2Error, match="does not say what it was encoded with"):
        check(tmp_path, vae, None)
