"""What RLHF asks for, and how answers are scored."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.reporter import NullReporter
from qi2.data.config import DataConfig
from qi2.data.ingest import ingest
from qi2.data.shards import Sidecar
from qi2.data.world.edits import Edit
from qi2.data.world.render import render
from qi2.data.world.scene import Scene
from qi2.data.world.split import is_heldout
from qi2.rlhf.config import PromptsConfig
from qi2.rlhf.prompts import Prompt, PromptPool, heldout_prompts, kind_weights, manifest_prompts, world_prompts
from qi2.rlhf.scoring import RolloutSample, checker, choose_scorers, exact

CONFIG = PromptsConfig(pool=200, edit_share=0.25)


@dataclass
class Recipe:
    """The part of a recipe that ingest reads."""

    data: DataConfig
    seed: int = 0


@pytest.fixture(scope="module")
def pool() -> PromptPool:
    return world_prompts(CONFIG, 64, seed=3)


@pytest.fixture(scope="module")
def prompts(pool: PromptPool) -> list[Prompt]:
    return pool.prompts


def test_prompts_show_nothing_that_is_held_out(prompts: list[Prompt]) -> None:
    for prompt in prompts:
        scenes = (prompt.truth,) if isinstance(prompt.truth, Scene) else (*prompt.truth.references, prompt.truth.target)
        assert not any(is_heldout(scene) for scene in scenes)


def test_prompts_follow_the_weights_of_kinds_and_the_share_of_edits(prompts: list[Prompt]) -> None:
    edits = [p for p in prompts if isinstance(p.truth, Edit)]
    assert len(edits) / len(prompts) == pytest.approx(0.25, abs=0.03)
    assert sum(p.kind == "count" for p in prompts) == pytest.approx(4 * sum(p.kind == "one" for p in prompts), abs=4)


def test_another_seed_gives_other_prompts(prompts: list[Prompt]) -> None:
    assert [p.text for p in prompts] == [p.text for p in world_prompts(CONFIG, 64, seed=3).prompts]
    assert [p.text for p in prompts] != [p.text for p in world_prompts(CONFIG, 64, seed=4).prompts]


def test_a_kind_without_spread_is_drawn_less(pool: PromptPool) -> None:
    factors = np.array([0.0 if kind == "count" else 1.0 for kind in pool.kinds])
    drawn = pool.draw(np.random.default_rng(0), 200, factors)
    assert not any(prompt.kind == "count" for prompt in drawn)


def test_prompts_of_a_manifest_carry_the_rows_truth_and_references(tmp_path: Path) -> None:

    cfg = DataConfig(image_size=64, world_images=60, rich_images=3, rich_sizes=[64], edit_pairs=20, photo_crops=0, heldout_images=5, workers=1)
    ingest(Recipe(data=cfg), tmp_path / "raw", NullReporter())
    table = Sidecar.load(tmp_path / "raw").table
    table[(table["source"] == "world") & (table["split"] == "train")].to_parquet(tmp_path / "stage6.parquet")
    pool = manifest_prompts(PromptsConfig(pool=40, edit_share=0.5), tmp_path / "raw", tmp_path / "stage6.parquet", 64, 0)
    edits = [p for p in pool.prompts if p.kind.startswith("edit/")]
    assert edits
    assert all(p.truth is not None for p in pool.prompts)
    assert all(len(p.sources) == len(p.truth.references) for p in edits if isinstance(p.truth, Edit))


def test_no_kind_with_a_weight_is_an_error() -> None:
    with pytest.raises(QI2Error, match="no kind has a weight"):
        kind_weights(PromptsConfig(), {"one": 0.0}, {})


def test_checker_scores_the_truth_one_and_a_wrong_image_less(prompts: list[Prompt]) -> None:
    scenes = [p for p in prompts if isinstance(p.truth, Scene)]
    right = checker([RolloutSample(p, render(p.truth, 64)) for p in scenes])
    wrong = checker([RolloutSample(p, render(q.truth, 64)) for p, q in zip(scenes, scenes[1:] + scenes[:1], strict=True)])
    assert right.mean() > 0.99
    assert wrong.mean() < 0.6


def test_an_unchanged_source_gets_half_of_the_edit_reward(prompts: list[Prompt]) -> None:
    edits = [p for p in prompts if isinstance(p.truth, Edit)]
    assert checker([RolloutSample(p, render(p.truth.target, 64)) for p in edits]).mean() > 0.99
    assert float(checker([RolloutSample(p, p.sources[0]) for p in edits]).mean()) == pytest.approx(0.5, abs=0.02)


def test_exact_is_one_where_all_is_right_and_nothing_for_an_unchanged_source(prompts: list[Prompt]) -> None:
    scenes, edits = ([p for p in prompts if isinstance(p.truth, kind)] for kind in (Scene, Edit))
    assert exact([RolloutSample(p, render(p.truth, 64)) for p in scenes]).mean() > 0.99
    assert exact([RolloutSample(p, render(p.truth.target, 64)) for p in edits]).eq(1).all()
    assert exact([RolloutSample(p, p.sources[0]) for p in edits]).eq(0).all()


def test_judges_prompts_are_of_every_kind_and_show_what_training_never_does() -> None:
    found = heldout_prompts(CONFIG, 64, seed=3, n=44)
    assert {p.kind for p in found} == set(world_prompts(CONFIG, 64, seed=3).kinds)
    assert len(found) == 44
    for prompt in found:
        scenes = (prompt.truth,) if isinstance(prompt.truth, Scene) else (*prompt.truth.references, prompt.truth.target)
        assert any(is_heldout(scene) for scene in scenes)


def test_prompts_held_out_of_a_pool_are_never_drawn_and_leave_half_of_every_kind() -> None:
    pool = world_prompts(CONFIG, 64, seed=3)
    before = {kind: len(group) for kind, group in pool.by_kind.items()}
    taken = pool.hold_out(110)
    assert not {id(p) for p in taken} & {id(p) for p in pool.prompts}
    assert all(len(pool.by_kind[kind]) == n - min(10, n // 2) for kind, n in before.items())
    drawn = pool.draw(np.random.default_rng(0), 500, np.ones(len(pool.kinds)))
    assert not {id(p) for p in drawn} & {id(p) for p in taken}


def test_checker_does_not_apply_without_a_known_truth(prompts: list[Prompt]) -> None:
    assert checker([RolloutSample(Prompt("user", "a photo"), render(Scene("one"), 64))]).isnan().all()


def test_a_reward_without_a_scorer_is_an_error_that_names_it() -> None:
    with pytest.raises(QI2Error, match="aesthetic"):
        choose_scorers({"checker": 1.0, "aesthetic": 0.5}, {})
    given = {"aesthetic": lambda samples: torch.zeros(len(samples))}
    assert list(choose_scorers({"checker": 0.0, "aesthetic": 0.5}, given)) == ["aesthetic"]


def test_a_users_rows_which_name_no_kind_are_one_kind(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    for i in range(6):
        Image.new("RGB", (64, 64), (40 * i, 90, 90)).save(tmp_path / "own" / f"{i}.png")
        (tmp_path / "own" / f"{i}.txt").write_text(f"a plain picture, number {i}")
    ingest(Recipe(data=DataConfig(source=str(tmp_path / "own"), heldout_fraction=0.0, workers=0)), tmp_path / "raw", NullReporter())
    Sidecar.load(tmp_path / "raw").table.to_parquet(tmp_path / "stage6.parquet")
    pool = manifest_prompts(PromptsConfig(pool=4), tmp_path / "raw", tmp_path / "stage6.parquet", 64, 0)
    assert pool.kinds == ["user"] and len(pool.prompts) == 4 and all(prompt.kind == "user" and prompt.truth is None for prompt in pool.prompts)
