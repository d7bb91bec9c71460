"""Several processes: the same samples and noise, the same losses and weights up to rounding, and checkpoints that load in another number."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

STEPS = 6


def train(out: Path, stop: int = -1, code: int = 0, **engine: Any) -> None:
    command = [sys.executable, str(Path(__file__).parent / "ranks.py"), str(out), str(STEPS), str(stop), json.dumps(engine)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300, check=False)
    assert done.returncode == code, done.stderr[-3000:]


def losses(out: Path) -> torch.Tensor:
    with open(out / "curves.csv", newline="") as handle:
        return torch.tensor([float(row["value"]) for row in csv.DictReader(handle) if row["name"] == "train/loss"])


def distance(one: Path, other: Path) -> float:
    a, b = (load_file(folder / "model" / "model.safetensors") for folder in (one, other))
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    train(out)
    return out


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_all_processes_stop_when_one_is_told_to_and_go_on_later(alone: Path, tmp_path: Path, strategy: str) -> None:
    train(tmp_path, stop=2, code=75, devices=2, strategy=strategy)
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["step-00000003"]
    train(tmp_path, devices=2, strategy=strategy)
    assert distance(tmp_path, alone) < 1e-5


@pytest.mark.parametrize(("strategy", "accumulate"), [("ddp", 2), ("fsdp", 1)])
def test_two_processes_train_as_one_does_and_one_goes_on_where_two_stopped(alone: Path, tmp_path: Path, strategy: str, accumulate: int) -> None:
    train(tmp_path, devices=2, strategy=strategy, accumulate=accumulate, dry_run=True, checkpoint_steps=3, keep=9)
    assert torch.allclose(losses(tmp_path), losses(alone), atol=1e-5)
    assert distance(tmp_path, alone) < 1e-5
    shutil.rmtree(tmp_path / "checkpoints" / f"step-{STEPS:08d}")
    shutil.rmtree(tmp_path / "model")
    train(tmp_path, devices=1, strategy=strategy)
    assert distance(tmp_path, alone) < 1e-5
