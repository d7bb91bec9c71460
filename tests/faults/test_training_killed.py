"""A training that is killed at random moments, again and again, ends with the bytes of an undisturbed one. `make chaos` does so with the whole line."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from qi2.core.publish import verify

ROOT = Path(__file__).resolve().parents[2]
KILLS, SEED = 8, 0
STATE = ("state_dict", "optimizer_states", "lr_schedulers", "callbacks", "qi2")  # beside them: a count of Lightning's for its loggers, which it starts anew


def _last(folder: Path) -> dict[str, Any]:
    """Weights, average, optimiser, schedule, streams and guards of a run's last checkpoint."""
    newest = max((folder / "checkpoints").glob("step-*"))
    saved = torch.load(newest / "state.ckpt", weights_only=True)
    return {"step": newest.name, **{name: _comparable(saved[name]) for name in STATE}}


def _comparable(value: Any) -> Any:
    """Tensors, at any depth, as their type, shape and bytes."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.contiguous().view(torch.uint8).numpy().tobytes() if value.dim() else value.item()
    if isinstance(value, dict):
        return {name: _comparable(child) for name, child in value.items()}
    return [_comparable(child) for child in value] if isinstance(value, list | tuple) else value


def test_a_training_that_is_killed_again_and_again_ends_with_the_same_bytes(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    command = [sys.executable, "-m", "tests.faults.forks", str(tmp_path), str(KILLS), str(SEED)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + "".join(path.read_text() for path in tmp_path.glob("*.log"))
    kills = json.loads(done.stdout)["kills"]
    assert sum(kills) >= KILLS
    expected, state = verify(tmp_path / "undisturbed" / "result"), _last(tmp_path / "undisturbed")
    assert {"model.safetensors", "curves.csv"} <= set(expected)
    for number in range(1, len(kills) + 1):
        run = tmp_path / f"run{number}"
        assert verify(run / "result") == expected
        assert _last(run) == state
        assert not list(run.rglob(".*staging"))
