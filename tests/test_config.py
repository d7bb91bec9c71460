"""Configuration errors name the file, the key and the nearest valid one."""

from pathlib import Path

import pytest

from qi2.config import load
from qi2.core.errors import QI2Error
from qi2.recipe import Recipe

CONF = Path(__file__).parents[1] / "conf" / "scale"


@pytest.mark.parametrize("scale", ["smoke", "tiny", "small", "report"])
def test_every_scale_resolves(scale):
    assert load(Recipe, [CONF / f"{scale}.yaml"]).scale == scale


def test_unknown_key_names_the_nearest():
    with pytest.raises(QI2Error, match=r"unknown key mmdit\.layer; did you mean mmdit\.layers"):
        load(Recipe, [{"mmdit": {"layer": 3}}])


def test_wrong_type_names_the_key():
    with pytest.raises(QI2Error, match="mmdit.width"):
        load(Recipe, [], ["mmdit.width=wide"])


def test_missing_scale_lists_the_others(tmp_path):
    (tmp_path / "tiny.yaml").write_text("scale: tiny")
    with pytest.raises(QI2Error, match="tiny"):
        load(Recipe, [tmp_path / "huge.yaml"])


def test_report_scale_has_table_2():
    recipe = load(Recipe, [CONF / "report.yaml"])
    phases = {"pretrain": (700_000, 1e-4), "continual": (250_000, 2e-5), "sft": (10_000, 1e-5)}
    for name, (steps, lr) in phases.items():
        phase = getattr(recipe, name)
        assert sum(stage.steps for stage in phase.stages) == steps
        assert (phase.optimizer.lr, phase.optimizer.weight_decay, phase.optimizer.clip, phase.dropout) == (lr, 1e-3, 1.0, 0.1)
    assert [stage.stage for name in phases for stage in getattr(recipe, name).stages] == [1, 2, 3, 4, 5, 6]
