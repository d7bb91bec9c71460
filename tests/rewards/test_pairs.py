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
from qi2.rewards.pairs import WorldPairs


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_pair_follows_from_its_index_alone_and_differs_visibly(dimension: str) -> None:
    first, again = (WorldPairs(dimension, "train", 64, 3).get(7) for _ in range(2))
    assert (first.prompt, first.pictures, first.label) == (again.prompt, again.pictures, again.label)
    assert ImageChops.difference(*first.pictures).getbbox() is not None
    assert bool(first.sources) == NEEDS[dimension].source


def test_both_rewards_of_edits_meet_the_same_edits() -> None:
    for index in range(7):
        one, two = (WorldPairs(name, "train", 64, 0).get(index) for name in ("instruction", "consistency"))
        assert (one.prompt, one.pictures[0], one.sources) == (two.prompt, two.pictures[0], two.sources)


def test_noise_turns_round_its_share_of_the_labels_and_leaves_the_pictures() -> None:
    exact, noisy = (WorldPairs("portrait", "train", 32, 0, noise=noise) for noise in (0.0, 0.25))
    pairs = [(exact.get(i), noisy.get(i)) for i in range(400)]
    assert all(one.pictures == two.pictures and one.truth == two.truth == one.label == 1 for one, two in pairs)
    assert np.mean([two.label == -1 for _, two in pairs]) == pytest.approx(0.25, abs=0.06)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_equally_good_pictures_are_ties_that_noise_leaves_alone(dimension: str) -> None:
    world = WorldPairs(dimension, "train", 64, 0, noise=1.0, equal=1.0)
    pairs = [world.get(i) for i in range(12)]
    assert all(pair.label == pair.truth == 0 for pair in pairs)
    assert sum(pair.pictures[0] != pair.pictures[1] for pair in pairs) >= 10
    assert np.mean([WorldPairs("portrait", "train", 32, 0, equal=0.3).get(i).label == 0 for i in range(300)]) == pytest.approx(0.3, abs=0.08)


def test_a_tie_of_alignment_shows_two_pictures_that_are_wrong_for_the_prompt() -> None:
    right = [WorldPairs("alignment", "train", 64, 0).get(i).pictures[0] for i in range(8)]
    tied = [WorldPairs("alignment", "train", 64, 0, equal=1.0).get(i).pictures for i in range(8)]
    assert all(good not in pictures for good, pictures in zip(right, tied, strict=True))


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
    prompts = [{pairs.get(i).prompt for i in range(pairs.count)} for pairs in (train, held)]
    assert dimension in ("instruction", "consistency") or prompts[0].isdisjoint(prompts[1])
    pair = train.get(5)
    better, worse = (np.asarray(picture, dtype=float) for picture in pair.pictures)
    assert better.shape == worse.shape == (64, 64, 3)
    assert np.abs(better - worse).mean() > 1
    assert pair.group
    assert all(isinstance(image, Image.Image) for image in pair.sources)


def test_without_own_images_there_are_no_pairs_of_them(stages: Path) -> None:
    assert image_pairs("aesthetic", stages / "raw", stages / "curated", small_config(), 0) is None


def test_few_images_of_people_leave_the_portrait_reward_to_the_world(own_images: tuple[Path, Path]) -> None:
    config: Any = small_config(portrait_words=["nobody"])
    assert image_pairs("portrait", *own_images, config, 0) is None
