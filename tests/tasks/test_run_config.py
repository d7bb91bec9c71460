"""The configuration of a run: layers, overrides, and fingerprints of a user's files."""

from pathlib import Path

import pytest
import yaml

from qi2.core.errors import QI2Error
from tasks import config, settings


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    scales = tmp_path / "conf" / "scale"
    scales.mkdir(parents=True)
    for path in (settings.ROOT / "conf" / "scale").glob("*.yaml"):
        (scales / path.name).write_text(path.read_text())
    monkeypatch.setattr(settings, "ROOT", tmp_path)
    return tmp_path


def test_dotted_and_nested_overrides_mean_the_same() -> None:
    assert config.nested({"sft.batch_size": 9}) == config.nested({"sft": {"batch_size": 9}}) == {"sft": {"batch_size": 9}}
    assert config.nested({"sft.batch_size": 9, "sft": {"dropout": 0.2}}) == {"sft": {"batch_size": 9, "dropout": 0.2}}


def test_an_override_changes_its_section_and_nothing_else(project: Path) -> None:
    before = config.resolve("tiny")
    config.write_overrides("tiny", {"sft.dropout": 0.123})
    after = config.resolve("tiny")
    assert after["sft"]["dropout"] == 0.123
    assert {name for name in after if after[name] != before[name]} == {"sft"}


def test_a_run_without_overrides_clears_those_of_the_last(project: Path) -> None:
    before = config.resolve("tiny")
    config.write_overrides("tiny", {"seed": 7})
    assert config.write("tiny")["seed"] == 7
    config.write_overrides("tiny", None)
    assert config.write("tiny") == before


def test_overrides_of_one_scale_leave_the_others_alone(project: Path) -> None:
    before = config.resolve("smoke")
    config.write_overrides("tiny", {"seed": 7})
    assert config.resolve("smoke") == before


def test_an_unknown_key_is_named_with_its_nearest_neighbour(project: Path) -> None:
    with pytest.raises(QI2Error, match=r"sft\.dropuot.*sft\.dropout"):
        config.write_overrides("tiny", {"sft.dropuot": 0.1})
    config.resolve("tiny")


def test_what_was_edited_since_the_last_run_is_known(project: Path) -> None:
    config.write("tiny")
    assert config.edited("tiny") == set()
    config.write_overrides("tiny", {"sft.dropout": 0.123})
    assert config.edited("tiny") == {"sft"}
    assert "sft" in config.edited("smoke")


def test_resolved_file_gives_back_the_same_recipe_and_is_not_touched_again(project: Path) -> None:
    config.write("tiny")
    path = config.resolved_path("tiny")
    stamp = path.stat().st_mtime_ns
    config.write("tiny")
    assert path.stat().st_mtime_ns == stamp
    assert config.recipe_of(yaml.safe_load(path.read_text())) == config.read("tiny")


def test_a_changed_file_of_the_user_changes_the_fingerprint(project: Path, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    (source / "a.txt").write_text("a house")
    config.write_overrides("tiny", {"data.source": str(source)})
    before = config.resolve("tiny")["source_files"]
    (source / "b.txt").write_text("a tree")
    assert config.resolve("tiny")["source_files"] != before


def test_a_missing_source_is_refused_with_its_path(project: Path) -> None:
    config.write_overrides("tiny", {"data.source": "no/such/folder"})
    with pytest.raises(QI2Error, match="no/such/folder"):
        config.resolve("tiny")


@pytest.mark.parametrize("key", ["vae.path", "sft.start", "sft.lora.path"])
def test_weights_replaced_at_the_same_place_change_the_fingerprint(project: Path, tmp_path: Path, key: str) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "model.safetensors").write_bytes(b"old")
    config.write_overrides("tiny", {key: str(tmp_path / "given")})
    before = config.resolve("tiny")["weights_files"]
    (tmp_path / "given" / "model.safetensors").write_bytes(b"newer")
    assert set(before) == {key}
    assert config.resolve("tiny")["weights_files"] != before
