"""What RL asks for, SFT has not read, and what the evaluation holds out is in neither."""

from collections import Counter
from pathlib import Path

import pytest

from qi2.config import load
from qi2.core.reporter import NullReporter
from qi2.core.rng import numpy_rng
from qi2.data.ingest import ingest
from qi2.data.shards import Sidecar
from qi2.data.world.captions import captions
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import TINY_KINDS
from qi2.data.world.split import HELDOUT_COMBOS
from qi2.enhancer.reserve import divide, named, reserved_combinations
from qi2.enhancer.train import make_triplets
from qi2.enhancer.triplets import Annotation
from qi2.recipe import Recipe


def annotated(n: int = 300) -> list[Annotation]:
    scenes = [(draw := numpy_rng(i, "reserve"), sample_scene(draw, TINY_KINDS[i % 5])) for i in range(n)]
    return [Annotation(f"s{i}", "t2i", scene.kind, captions(scene, draw, 1)[0], scene.to_json()) for i, (draw, scene) in enumerate(scenes)]


def combinations(found: list[Annotation]) -> set[tuple[str, str]]:
    return set().union(*(named(a.fine) for a in found))


def test_what_is_kept_for_rl_is_in_no_prompt_of_sft() -> None:
    found = annotated()
    learned, kept, reserved = divide(found, 0.25, 0)
    chosen = combinations(found) - combinations(learned)
    assert len(learned) + len(kept) > 0.95 * len(found) and len(chosen) == 5
    assert all(named(a.fine) & chosen for a in kept if named(a.fine))
    assert all(reserved(a.fine) for a in kept if named(a.fine)) and not any(reserved(a.fine) for a in learned)


def test_every_colour_and_shape_stays_in_sft() -> None:
    known = combinations(annotated())
    for seed in range(5):
        chosen = reserved_combinations(known, 0.4, seed)
        left = Counter(part for pair in known - chosen for part in pair)
        assert set(left) == {part for pair in known for part in pair}
    assert reserved_combinations(known, 0.4, 0) != reserved_combinations(known, 0.4, 1)


def test_without_a_reserve_sft_reads_everything() -> None:
    found = annotated(50)
    assert divide(found, 0.0, 0)[:2] == (found, [])


def test_prompts_without_combinations_go_by_their_picture() -> None:
    """All captions of one picture on one side."""
    own = [Annotation(f"photo-{i // 2}", "t2i", "photo", f"my dog, take {i}") for i in range(400)]
    learned, kept, _ = divide(own, 0.25, 0)
    assert not {a.id for a in learned} & {a.id for a in kept}
    assert 0.15 < len(kept) / len(own) < 0.35


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    path = tmp_path_factory.mktemp("own") / "examples.jsonl"
    path.write_text("".join(f'{{"short": "{a} {b} pic", "fine": "a {a} {b}"}}\n' for a, b in (("red", "circle"), ("yellow", "star"), ("cyan", "star"))))
    data = {"world_images": 100, "rich_images": 0, "heldout_images": 10, "edit_pairs": 20, "heldout_edits": 7, "photo_crops": 0, "image_size": 32}
    return load(Recipe, [{"data": data, "enhancer": {"triplets": {"pool": 300, "reserve": 0.25, "examples": [str(path)]}}}])


def test_triplets_of_sft_and_rl_share_no_combination_and_hold_nothing_of_the_evaluation(recipe: Recipe, tmp_path: Path) -> None:
    ingest(recipe, tmp_path / "raw", NullReporter())
    table = Sidecar.load(tmp_path / "raw").table
    for_sft, for_rl, metrics = make_triplets(recipe, table)
    read, asked = (set().union(*(named(t.fine) for t in group)) for group in (for_sft, for_rl))
    chosen = asked - read
    assert metrics["triplets/reserved"] == len(for_rl) >= 70 and chosen
    assert all(named(t.fine) & chosen for t in for_rl if named(t.fine))
    assert not {t.fine for t in for_sft} & {t.fine for t in for_rl}  # nor any whole caption
    assert sum(t.short.endswith(" pic") for t in [*for_sft, *for_rl]) == 3  # own examples are kept, each on its side
    assert not (read | asked) & HELDOUT_COMBOS
    held = set(table[table["split"] != "train"]["id"])
    assert held and not held & {t.id for t in [*for_sft, *for_rl]}
