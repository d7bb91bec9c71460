"""A pretrained model is found with its tokenizer, wherever a pipeline keeps that, and never with an empty one."""

import json
from pathlib import Path

import pytest

from qi2.core.errors import QI2Error
from qi2.core.pretrained import POINTER, model_source, processor_source


def pointer(folder: Path, **values: str) -> Path:
    folder.mkdir()
    (folder / POINTER).write_text(json.dumps(values))
    return folder


def test_hub_ids_and_folders_with_a_tokenizer_stand_for_themselves(tmp_path: Path) -> None:
    (tmp_path / "vlm").mkdir()
    (tmp_path / "vlm" / "tokenizer.json").write_text("{}")
    assert processor_source(tmp_path / "vlm") == str(tmp_path / "vlm")
    assert model_source(pointer(tmp_path / "a", path="Qwen/Qwen3-VL-8B-Instruct")) == processor_source(tmp_path / "a") == "Qwen/Qwen3-VL-8B-Instruct"


def test_the_text_encoder_of_a_pipeline_is_read_with_the_processor_beside_it(tmp_path: Path) -> None:
    for name in ("text_encoder", "processor", "alone"):
        (tmp_path / "Q" / name).mkdir(parents=True)
    (tmp_path / "Q" / "processor" / "tokenizer.json").write_text("{}")
    found = pointer(tmp_path / "vlm", path=str(tmp_path / "Q" / "text_encoder"))
    assert (model_source(found), processor_source(found)) == (str(tmp_path / "Q" / "text_encoder"), str(tmp_path / "Q" / "processor"))
    (tmp_path / "Q" / "processor" / "tokenizer.json").unlink()
    with pytest.raises(QI2Error, match=r"text_encoder has no tokenizer, nor has .*processor"):
        processor_source(found)
