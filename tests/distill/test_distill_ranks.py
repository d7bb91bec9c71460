"""Two processes distil as one does, up to rounding, sharded or not, and one goes on where two stopped."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file


def distil(world: Any, out: Path, rank: int = 0, stop: int = -1, code: int = 0, **engine: Any) -> None:
    arguments = [out, world.encoded, world.model, rank, stop, json.dumps(engine)]
    command = [sys.executable, str(Path(__file__).parent / "distill_ranks.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300, check=False)
    assert done.returncode == code, done.stderr[-3000:]


def losses(out: Path) -> torch.Tensor:
    with open(out / "curves.csv", newline="") as handle:
        return torch.tensor([float(row["value"]) for row in csv.DictReader(handle) if row["name"].startswith("distill/loss")])


def distance(one: Path, other: Path) -> float:
    a, b = (load_file(folder / "model" / "model.safetensors") for folder in (one, other))
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@pytest.fixture(scope="module")
def alone(small_world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    distil(small_world, out)
    return out


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_distil_as_one_does_and_one_goes_on_where_two_stopped(small_world: Any, alone: Path, tmp_path: Path, strategy: str) -> None:
    distil(small_world, tmp_path, stop=3, code=75, devices=2, strategy=strategy)
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["step-00000004"]
    distil(small_world, tmp_path, devices=1, strategy=strategy, accumulate=2)
    assert torch.allclose(losses(tmp_path), losses(alone), atol=1e-5)
    assert distance(tmp_path, alone) < 1e-4


def test_two_processes_shard_adapters(small_world: Any, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    for name, engine in (("one", {}), ("two", {"devices": 2, "strategy": "fsdp"})):
        distil(small_world, tmp_path / name, rank=2, **engine)
    assert distance(tmp_path / "one", tmp_path / "two") < 1e-4
