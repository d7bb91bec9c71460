"""Thresholds per stage: what enters, why a row leaves, and that every row is accounted for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qi2.config import load
from qi2.core.errors import QI2Error
from qi2.data import exempt
from qi2.data.curate_config import STAGES, CurateConfig, StageThresholds, thresholds
from qi2.data.stages import first_reason, kept, run_stages
from qi2.recipe import Recipe
from tests.data.conftest import blank_table

ROOT = Path(__file__).resolve().parents[2]


def _edit_rows() -> pd.DataFrame:
    """Two images, a pair with a good reference, a pair with a flat one, a reference nobody uses, a synthetic page, a held-out image."""
    return blank_table(
        9,
        id=["image", "noise", "pair", "good", "badpair", "flat", "alone", "page", "held"],
        role=["image", "image", "pair", "reference", "pair", "reference", "reference", "image", "image"],
        kind=["one", "two", "add", "reference", "move", "reference", "reference", "layout", "one"],
        references=pd.Series([[], [], ["good"], [], ["good", "flat"], [], [], [], []]),
        split=["train"] * 8 + ["heldout"],
        difference_entropy=[2.0, 8.5, *[2.0] * 7],
        entropy=[*[2.0] * 5, 0.0, *[2.0] * 3],
    )


def test_stages_inherit_what_they_leave_open() -> None:
    config = CurateConfig(stage1=StageThresholds(sides=[32], min_clip=0.2), stage6=StageThresholds(min_clip=0.4))
    resolved = thresholds(config)
    assert [resolved[name].min_clip for name in STAGES] == [0.2] * 5 + [0.4]
    assert resolved["stage2"].edits
    assert resolved["stage5"].sides == [512, 1024, 2048]


def test_the_report_scale_follows_the_report() -> None:
    resolved = thresholds(CurateConfig())
    assert [resolved[name].sides for name in STAGES] == [[256], [256], [512], [512, 1024], [512, 1024, 2048], [1024, 2048]]
    assert [bool(resolved[name].edits) for name in STAGES] == [False] + [True] * 5
    assert [bool(resolved[name].synthetic) for name in STAGES] == [False] * 2 + [True] * 4
    assert resolved["stage3"].min_quality is None
    assert resolved["stage4"].min_quality is not None


def test_a_misspelt_threshold_names_the_right_one() -> None:
    with pytest.raises(QI2Error, match="min_clip"):
        load(CurateConfig, [{"stage1": {"min_clp": 0.2}}])


def test_the_first_filter_in_the_reports_order_is_the_reason() -> None:
    table = blank_table(2, nsfw=[0.9, 0.9], entropy=[0.0, 0.0], short_side=[64, 8])
    limits = StageThresholds(sides=[32], max_nsfw=0.5, min_entropy=0.5)
    assert first_reason(table, limits, CurateConfig()).tolist() == ["nsfw", "resolution"]


def test_edits_enter_at_stage_two_and_synthetic_rows_at_stage_three(lenient: CurateConfig) -> None:
    reasons, funnel = run_stages(_edit_rows(), lenient, 0)
    stays = {name: set(_edit_rows()["id"][kept(reason)]) for name, reason in reasons.items()}
    assert stays["stage1"] == {"image"}
    assert stays["stage2"] == {"image", "pair", "good"}
    assert stays["stage3"] == stays["stage6"] == {"image", "pair", "good", "page"}
    assert [funnel[name]["in"] for name in STAGES] == [2, 6, 4, 4, 4, 4]


def test_a_pair_goes_with_its_reference_and_an_unused_reference_goes_too(lenient: CurateConfig) -> None:
    reasons, funnel = run_stages(_edit_rows(), lenient, 0)
    why = dict(zip(_edit_rows()["id"], reasons["stage2"], strict=True))
    assert (why["flat"], why["badpair"], why["alone"], why["noise"]) == ("entropy", "reference", "unused_reference", "entropy")
    assert funnel["stage2"]["rejected"] == {"entropy": 1, "reference": 1, "unused_reference": 1}


def test_a_held_out_copy_of_earlier_training_data_is_rejected_and_no_stage_counts_it(lenient: CurateConfig) -> None:
    table = _edit_rows()
    expected = run_stages(table, lenient, 0)[1]
    table.loc[8, "near_duplicate_of"] = "earlier"
    reasons, funnel = run_stages(table, lenient, 0)
    assert {reason[8] for reason in reasons.values()} == {"near_duplicate"}
    assert funnel == expected


def test_heldout_rows_enter_no_stage(lenient: CurateConfig) -> None:
    reasons, _ = run_stages(_edit_rows(), lenient, 0)
    assert {reason[8] for reason in reasons.values()} == {"heldout"}


def test_in_is_kept_plus_rejected_at_every_stage(lenient: CurateConfig) -> None:
    rng = np.random.default_rng(0)
    table = blank_table(400, clip=rng.random(400), nsfw=rng.random(400), kind=rng.choice(["one", "two", "layout"], 400))
    config = replace(lenient, stage4=StageThresholds(min_clip=0.2), stage6=StageThresholds(max_nsfw=0.5, balance=1.0))
    reasons, funnel = run_stages(table, config, 0)
    before = 0
    for name in STAGES:
        stage = funnel[name]
        assert stage["in"] == stage["kept"] + sum(stage["rejected"].values())
        assert stage["in"] >= before
        assert stage["kept"] == kept(reasons[name]).sum() == sum(stage["kept_by_kind"].values())
        before = stage["kept"]


def test_what_a_stage_rejected_stays_out(lenient: CurateConfig) -> None:
    table = blank_table(2, clip=[0.1, 0.9])
    config = replace(lenient, stage1=replace(lenient.stage1, min_clip=0.5), stage2=StageThresholds(min_clip=-1.0))
    reasons, _ = run_stages(table, config, 0)
    assert [reasons[name][0] for name in STAGES] == ["clip"] * 6


def test_rebalancing_trims_frequent_kinds_only_and_repeats(lenient: CurateConfig) -> None:
    table = blank_table(130, kind=["a"] * 80 + ["b"] * 30 + ["c"] * 20)
    config = replace(lenient, stage6=StageThresholds(balance=0.5))
    reasons, funnel = run_stages(table, config, 0)
    assert funnel["stage6"]["kept_by_kind"] == {"a": 40, "b": 30, "c": 20}
    again, _ = run_stages(table, config, 0)
    other, _ = run_stages(table, config, 1)
    assert (again["stage6"] == reasons["stage6"]).all()
    assert (other["stage6"] != reasons["stage6"]).any()


def test_rows_that_opted_out_and_needles_are_rejected_at_the_first_stage() -> None:
    table = blank_table(3, opt_out=[False, True, False], long_side=[64, 64, 400])
    limits = StageThresholds(sides=[32], max_aspect=5.0)
    assert first_reason(table, limits, CurateConfig()).tolist() == [None, "opt_out", "resolution"]
    assert first_reason(table, replace(limits, max_aspect=None), CurateConfig()).tolist() == [None, "opt_out", None]


def test_exempt_groups_are_not_judged_by_the_filters_they_name_and_by_all_others(lenient: CurateConfig) -> None:
    table = _edit_rows().assign(sharpness=0.0, source=["user", "world", *["user"] * 7])
    table.loc[table["id"] == "page", "nsfw"] = 0.9
    config = replace(lenient, stage3=replace(lenient.stage3, min_sharpness=4.0), exempt={"world": ["entropy", "quality"], "reference": ["entropy"]})
    why = dict(zip(table["id"], run_stages(table, config, 0)[0]["stage3"], strict=True))
    assert (why["noise"], why["image"]) == (None, "quality")
    assert (why["flat"], why["good"]) == ("quality", "quality")  # entropy alone is spared them
    spared = replace(config, exempt={"synthetic": ["nsfw"], "reference": ["entropy", "quality"]})
    why = dict(zip(table["id"], run_stages(table, spared, 0)[0]["stage3"], strict=True))
    assert (why["page"], why["noise"], why["flat"]) == ("quality", "entropy", "unused_reference")


def test_a_row_is_told_every_filter_that_does_not_judge_it(lenient: CurateConfig) -> None:
    config = replace(lenient, exempt={"reference": ["quality", "entropy"], "synthetic": ["clip", "entropy"]})
    table = blank_table(3, role=["image", "reference", "reference"], kind=["one", "one", "layout"])
    assert exempt.told(table, config) == ["", "entropy,quality", "entropy,clip,quality"]


@pytest.mark.parametrize(
    ("table", "words"),
    [({"synthetics": ["clip"]}, "synthetics.*did you mean synthetic"), ({"world": ["entropi"]}, "world names 'entropi'.*did you mean entropy")],
)
def test_unknown_groups_and_filters_of_exempt_name_the_nearest(table: dict[str, list[str]], words: str) -> None:
    with pytest.raises(QI2Error, match=words):
        exempt.check(load(CurateConfig, [{"exempt": table}]))


@pytest.mark.parametrize("name", ["opt_out", "broken", "resolution"])
def test_no_row_is_exempt_from_its_owners_word_or_from_being_a_picture_with_a_bucket(name: str) -> None:
    with pytest.raises(QI2Error, match="curate.exempt.world names"):
        exempt.check(CurateConfig(exempt={"world": [name]}))


def test_the_exemptions_of_the_report_scale_exist() -> None:
    recipe = load(Recipe, [ROOT / "conf" / "scale" / "report.yaml"])
    exempt.check(recipe.curate)
    assert set(recipe.curate.exempt) == set(exempt.GROUPS)
