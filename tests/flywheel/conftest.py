"""A small finished evaluation with verdicts, of pictures that the world draws right and wrong."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

from qi2.core.publish import publish
from qi2.evaluation.score import judge_edits, judge_t2i
from qi2.evaluation.suites.world import edit_suite, fingerprint, t2i_suite
from tests.arena.conftest import CONFIG, write_evaluation

SHARES = {"sft": 0.0, "rlhf": 0.5, "distill": 1.0}  # of right pictures


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """runs/SCALE with a finished evaluation of ten prompts and seven edits by sft, rlhf and distill; of the first six there are pictures."""
    runs = tmp_path_factory.mktemp("flywheel") / "tiny"
    config = CONFIG
    folder = write_evaluation(runs.parent / "drawn", SHARES, config)
    t2i, edits = t2i_suite(config), edit_suite(config)
    results = json.loads((folder / "results.json").read_text())
    for model in SHARES:
        shown = [Image.open(folder / "samples" / model / f"t2i-{k}.png").convert("RGB") for k in range(config.shown)]
        verdicts = judge_t2i(shown, t2i[: config.shown])
        results["t2i"]["results"][model] = verdicts + [{"object": False, "all": False}] * (len(t2i) - len(verdicts))
        sources = [item.references(64)[0].convert("RGB") for item in edits[: config.shown]]
        shown = [Image.open(folder / "samples" / model / f"edit-{k}.png").convert("RGB") for k in range(config.shown)]
        verdicts = judge_edits(shown, edits[: config.shown], sources)
        results["edit"]["results"][model] = verdicts + [{"done": True, "all": True, "kept_mae": 0.0}] * (len(edits) - len(verdicts))
    results["suite"] = {**asdict(config), "hashes": {"t2i": fingerprint(t2i), "edit": fingerprint(edits)}}
    results["models"] = {model: {"folder": model, "steps": 12, "guidance": 2.0} for model in SHARES}
    with publish(runs / "evaluate") as staging:
        shutil.copytree(folder, staging, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
        (staging / "results.json").write_text(json.dumps(results))
    (runs / "rlhf").mkdir()
    (runs / "rlhf" / "manifest.json").write_text(json.dumps({"files": {"model.safetensors": "ab" * 32}}))
    return runs
