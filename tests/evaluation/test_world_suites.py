"""Suites: fixed, held out, free of duplicates, and extendable without changing what was there."""

from dataclasses import replace

import numpy as np

from qi2.data.world.split import is_heldout
from qi2.evaluation.config import EvaluateConfig
from qi2.evaluation.suites.world import edit_suite, fingerprint, t2i_suite, vae_suite

SMALL = EvaluateConfig(prompts_per_kind=12, edits_per_kind=4, vae_world=17, size=64)


def test_same_config_gives_the_same_suite_and_another_seed_another_one() -> None:
    for suite in (t2i_suite, edit_suite, vae_suite):
        assert suite(SMALL) == suite(SMALL)
        assert fingerprint(suite(SMALL)) != fingerprint(suite(replace(SMALL, seed=1)))


def test_every_prompt_is_held_out_and_no_scene_comes_twice() -> None:
    items = t2i_suite(SMALL)
    assert all(is_heldout(item.scene) for item in items)
    assert len({item.scene for item in items}) == len(items) == 60
    assert len({item.noise_seed for item in items}) == 60


def test_asking_for_more_prompts_keeps_the_earlier_ones() -> None:
    few, many = t2i_suite(SMALL), t2i_suite(replace(SMALL, prompts_per_kind=20))
    assert set(few) <= set(many)
    assert many[: len(few)] == few


def test_a_prefix_holds_every_kind() -> None:
    assert [item.kind for item in t2i_suite(SMALL)[:5]] == SMALL.kinds
    assert {item.kind for item in edit_suite(SMALL)[:7]} == set(SMALL.edit_kinds)
    assert len(vae_suite(SMALL)) == 17


def test_edit_differs_from_its_source_only_where_it_may() -> None:
    for item in edit_suite(SMALL):
        source, target = np.asarray(item.references(64)[0]), np.asarray(item.target(64))
        assert (source != target).any(), item.prompt
        if item.edit.region != "background":
            outside = np.ones((2, 2), bool)
            for row, col in item.edit.region:
                outside[row, col] = False
            cells = np.abs(source.astype(int) - target).reshape(2, 32, 2, 32, 3).max(axis=(1, 3, 4))
            assert cells[outside].max(initial=0) == 0, item.prompt
