"""The enhancer's language model is where the configuration says, in training and in use."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from qi2.config import load
from qi2.core.errors import QI2Error
from qi2.core.reporter import NullReporter
from qi2.data.ingest import ingest
from qi2.data.shards import Sidecar
from qi2.enhancer import lm
from qi2.enhancer.config import EnhancerModelConfig, TripletsConfig
from qi2.enhancer.enhance import Enhancer
from qi2.enhancer.llm import LLMDegrader
from qi2.enhancer.sft import placed, shared
from qi2.enhancer.train import EnhancerInputs, train_enhancer, train_enhancer_sft
from qi2.enhancer.triplets import Degrader
from qi2.evaluation.enhanced import EnhancerExam
from qi2.recipe import Recipe

SMALL = EnhancerModelConfig(width=32, layers=1, heads=2, vocabulary=400)
NOWHERE, TOLD = "cuda:99", "no device cuda:99 here"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained enhancer as its stage publishes it, without triplets."""
    model, tokenizer = lm.start(SMALL, ["a red circle on white"] * 8, 0)
    found = tmp_path_factory.mktemp("device") / "enhancer"
    Enhancer(model, tokenizer, {"t2i": "image", "ti2i": "edit"}).save(found)
    (found / "triplets.jsonl").write_text('{"short": "red", "fine": "a red circle"}\n')
    (found / "reserved.jsonl").write_text("")
    return found


def test_a_model_is_started_and_loaded_on_the_device_that_is_named(folder: Path) -> None:
    own = EnhancerModelConfig(path=str(folder))
    assert lm.start(SMALL, ["a red circle"] * 8, 0, "meta")[0].device.type == "meta"
    assert lm.start(own, [], 0, "meta")[0].device.type == "meta" and lm.start(own, [], 0)[0].device.type == "cpu"
    assert Enhancer.load(folder, "meta").model.device.type == "meta"
    rules = Degrader(TripletsConfig(llm=str(folder)))
    assert LLMDegrader(rules.config, rules, "meta").model.device.type == "meta"


def test_a_device_that_is_not_there_is_told_clearly(folder: Path) -> None:
    for name, told in ((NOWHERE, TOLD), ("gpu", "choose cpu or cuda")):
        with pytest.raises(QI2Error, match=told):
            Enhancer.load(folder, name)


def _drawn(prompts: Sequence[str], references: Sequence[Sequence[Image.Image]], seeds: Sequence[int]) -> list[Image.Image]:
    return [Image.new("RGB", (32, 32)) for _ in prompts]


def test_both_stages_and_the_evaluation_take_the_configured_device(folder: Path, tmp_path: Path) -> None:
    data = {"world_images": 4, "rich_images": 0, "heldout_images": 1, "edit_pairs": 0, "heldout_edits": 0, "photo_crops": 0, "image_size": 32}
    ingest(load(Recipe, [{"data": data}]), tmp_path / "raw", NullReporter())
    (tmp_path / "encoded").mkdir()
    Sidecar.load(tmp_path / "raw").table[["id"]].to_parquet(tmp_path / "encoded" / "rows.parquet")
    plain: dict[str, Any] = {"model": {"width": 32, "layers": 1, "heads": 2, "vocabulary": 400}, "device": NOWHERE, "rl": {"steps": 0}}
    for more in ({}, {"triplets": {"llm": str(folder)}}, {"model": {"path": str(folder)}}):
        with pytest.raises(QI2Error, match=TOLD):
            train_enhancer_sft(load(Recipe, [{"enhancer": plain | more}]), tmp_path / "raw", tmp_path / "encoded", tmp_path / "sft", NullReporter())
    recipe = load(Recipe, [{"enhancer": plain, "evaluate": {"device": NOWHERE}}])
    with pytest.raises(QI2Error, match=TOLD):
        train_enhancer(recipe, EnhancerInputs(folder, tmp_path / "raw"), _drawn, {}, tmp_path / "out", NullReporter())
    with pytest.raises(QI2Error, match=TOLD):
        EnhancerExam(recipe, folder.parent, None, None)  # type: ignore[arg-type]


@pytest.fixture(name="gpus")
def fixture_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.device]]:
    """Torch says that it sees eight GPUs; the device that was made the current one."""
    from accelerate.state import AcceleratorState

    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr("accelerate.state.check_cuda_p2p_ib_support", lambda: True)
    yield current
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("trainer", ["SFTConfig", "GRPOConfig"])
@pytest.mark.parametrize("bf16", [True, False])
def test_trainers_use_the_models_gpu_alone_in_bf16_where_it_has_that(
    gpus: list[torch.device], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trainer: str, bf16: bool
) -> None:
    import trl

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16)
    model = SimpleNamespace(device=torch.device("cuda", 3))
    settings = placed(getattr(trl, trainer)(output_dir=str(tmp_path), **shared(model, 0, 1)), model.device)
    assert (settings.use_cpu, settings.bf16, settings.device, settings.n_gpu) == (False, bf16, torch.device("cuda", 3), 1)
    assert gpus[-1] == torch.device("cuda", 3)


def test_on_a_cpu_trainers_stay_there(tmp_path: Path) -> None:
    from trl import SFTConfig  # type: ignore[attr-defined]

    model = SimpleNamespace(device=torch.device("cpu"))
    settings = placed(SFTConfig(output_dir=str(tmp_path), **shared(model, 0, 1)), model.device)
    assert (settings.use_cpu, settings.bf16, settings.device.type) == (True, False, "cpu")
