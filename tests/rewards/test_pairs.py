"""Preference pairs of the world and of a user's own images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops
from rewards_settings import small_config

from qi2.core.rng import numpy_rng
from qi2.data.shards import Row, ShardWriter, Sidecar
from qi2.data.world.defects import encode_png
from qi2.data.world.mutate import wrong_scene
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import KINDS
from qi2.data.world.split import is_heldout
from qi2.rewards.config import DIMENSIONS, NEEDS
from qi2.rewards.images import image_pairs, names_person
from qi2.rewards.pairs import world_pairs


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_pair_follows_from_its_index_alone_and_differs_visibly(dimension: str) -> None:
    first, again = (world_pairs(dimension, "train", 10, 64, 3).pair(7) for _ in range(2))
    assert (first.prompt, first.better, first.worse) == (again.prompt, again.better, again.worse)
    assert ImageChops.difference(first.better, first.worse).getbbox() is not None
    assert bool(first.sources) == NEEDS[dimension].source


def test_both_rewards_of_edits_meet_the_same_edits() -> None:
    for index in range(7):
        one, two = (world_pairs(name, "train", 10, 64, 0).pair(index) for name in ("instruction", "consistency"))
        assert (one.prompt, one.better, one.sources) == (two.prompt, two.better, two.sources)


def test_nothing_held_out_becomes_the_worse_picture_of_a_training_pair() -> None:
    for index in range(300):
        rng = numpy_rng(0, "test/wrong", index)
        assert not is_heldout(wrong_scene(sample_scene(rng, KINDS[index % len(KINDS)], "train"), rng)[1])


def test_a_prompt_names_a_person_by_whole_words() -> None:
    words = small_config().portrait_words
    assert names_person("A smiling face, brown hair", words)
    assert not names_person("a manual on the surface", words)


@pytest.fixture
def own_images(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """raw and curated of 40 captioned images, half of them portraits, and 30 edits."""
    raw, curated = tmp_path / "raw", tmp_path / "curated"
    with ShardWriter(raw) as writer:
        for i in range(40):
            scene = sample_scene(numpy_rng(0, "test/own", i), "portrait" if i % 2 else "two")
            text = f"my friend number {i}, a portrait" if i % 2 else f"my picture {i}"
            writer.add(Row(f"user-{i}", encode_png(render(scene, 96)), "png", (text,), "user"))
        for i in range(30):
            scenes = [sample_scene(numpy_rng(0, f"test/{part}", i), "two") for part in ("before", "after")]
            writer.add(Row(f"edit-{i}-ref0", encode_png(render(scenes[0], 96)), "png", (), "user", "reference"))
            writer.add(Row(f"edit-{i}", encode_png(render(scenes[1], 96)), "png", ("change it",), "user", "ti2i", None, (f"edit-{i}-ref0",)))
    curated.mkdir()
    Sidecar.load(raw).table.to_parquet(curated / "stage6.parquet", index=False)
    yield raw, curated


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_own_images_give_pairs_of_every_dimension(own_images: tuple[Path, Path], dimension: str) -> None:
    found = image_pairs(dimension, *own_images, small_config(heldout_share=0.2), seed=0)
    assert found is not None
    train, held = found
    prompts = [{pairs.pair(i).prompt for i in range(pairs.count)} for pairs in (train, held)]
    assert dimension in ("instruction", "consistency") or prompts[0].isdisjoint(prompts[1])
    pair = train.pair(5)
    assert pair.better.size == pair.worse.size == (64, 64)
    assert np.abs(np.asarray(pair.better, dtype=float) - np.asarray(pair.worse)).mean() > 1
    assert all(isinstance(image, Image.Image) for image in pair.sources)


def test_without_own_images_there_are_no_pairs_of_them(stages: Path) -> None:
    assert image_pairs("aesthetic", stages / "raw", stages / "curated", small_config(), 0) is None


def test_few_images_of_people_leave_the_portrait_reward_to_the_world(own_images: tuple[Path, Path]) -> None:
    config: Any = small_config(portrait_words=["nobody"])
    assert image_pairs("portrait", *own_images, config, 0) is None
