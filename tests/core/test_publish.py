"""A result folder appears whole or not at all."""

import pytest

from qi2.core.errors import QI2Error
from qi2.core.publish import publish, verify


def test_a_failed_writer_leaves_the_old_result(tmp_path):
    target = tmp_path / "result"
    with publish(target) as staging:
        (staging / "a.txt").write_text("old")
    with pytest.raises(RuntimeError), publish(target) as staging:
        (staging / "a.txt").write_text("new")
        raise RuntimeError("killed")
    assert (target / "a.txt").read_text() == "old"


def test_a_changed_file_is_noticed_by_name(tmp_path):
    with publish(tmp_path / "result") as staging:
        (staging / "a.txt").write_text("data")
    assert set(verify(tmp_path / "result")) == {"a.txt"}
    (tmp_path / "result" / "a.txt").write_text("tampered")
    with pytest.raises(QI2Error, match="a.txt"):
        verify(tmp_path / "result")
