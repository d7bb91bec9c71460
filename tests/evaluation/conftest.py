"""A made-up run folder in the stages' formats, with pictures of the world, for tests of the report and the summary."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qi2.core.publish import publish
from qi2.core.reporter import FileReporter
from qi2.data.world.render import render
from qi2.evaluation.bootstrap import Bootstrap, Figure
from qi2.evaluation.config import EvaluateConfig
from qi2.evaluation.suites.world import edit_suite, t2i_suite
from qi2.evaluation.wordings import LABELS, RESULTS

SKILL = {
    "pretrain": 0.4,
    "continual": 0.6,
    "sft": 0.72,
    "rlhf": 0.82,
    "teacher": 0.82,
    "distill": 0.8,
    "teacher_4step": 0.6,
    "untrained_4step": 0.7,
}
SMALL = EvaluateConfig(size=64, prompts_per_kind=8, edits_per_kind=3, shown=4)


@dataclass
class FakeRecipe:
    """The part of a recipe that the report reads."""

    scale: str = "fixture"
    seed: int = 7
    standins: dict[str, Any] = field(default_factory=lambda: {"vlm": {"path": ""}, "clip": {"path": ""}, "nsfw": {"path": ""}})
    evaluate: EvaluateConfig = field(default_factory=lambda: SMALL)


@pytest.fixture
def recipe() -> FakeRecipe:
    return FakeRecipe()


@pytest.fixture
def full_run(tmp_path: Path) -> Path:
    """runs/<scale> with every stage present."""
    return make_run(tmp_path / "run")


def make_run(folder: Path, stages: Sequence[str] = ("curated", "vae", "pretrain", "continual", "sft", "rewards", "rlhf", "distill")) -> Path:
    """Publish made-up results of the given stages, evaluation among them where the chain is whole."""
    for number, stage in enumerate(stages):
        with publish(folder / stage) as staging:
            _stage(staging, stage, number)
    if "distill" in stages:
        with publish(folder / "evaluate") as staging:
            _evaluation(staging)
    timing = {name: {"compute": 40.0 + 10 * i, "import": 4.0, "evaluate": 1.0, "orchestration": 0.4} for i, name in enumerate(stages)}
    total = sum(sum(parts.values()) for parts in timing.values())
    (folder / "timing.json").write_text(json.dumps({"total_s": total, "overhead_share": 0.09, "peak_gib": 2.4, "flow_s": 12.0, "stages": timing}))
    return folder


def _stage(folder: Path, stage: str, number: int) -> None:
    rng = np.random.default_rng(number)
    reporter = FileReporter(folder)
    for step in range(0, 300, 5):
        reporter.metrics({"train/loss": 1.2 * math.exp(-step / 90) + 0.3 + 0.05 * rng.normal(), "train/lr": 0.008 * (1 - step / 300)}, step)
    metrics: dict[str, float] = {f"{stage}/steps": 300 + 50 * number}
    if stage == "rewards":
        metrics = {f"reward/{name}/{key}": value for name in ("aesthetic", "alignment") for key, value in (("accuracy", 0.93), ("n", 200))}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "model.safetensors").write_bytes(stage.encode())
    if stage == "curated":
        _curated(folder)


def _curated(folder: Path) -> None:
    kept = {"in": 1000, "kept": 900, "rejected": {"broken": 20, "near_duplicate": 70, "entropy": 10}}
    (folder / "funnel.json").write_text(json.dumps({"stage1": kept, "stage2": kept | {"kept": 880, "rejected": {"broken": 120}}}))
    (folder / "rejected").mkdir()
    for reason, width in (("entropy", 192), ("near_duplicate", 384)):
        Image.new("RGB", (width, 252), "gray").save(folder / "rejected" / f"{reason}_0.png")


def _evaluation(folder: Path) -> None:
    prompts, edits, boot = t2i_suite(SMALL), edit_suite(SMALL), Bootstrap(0)
    rng = np.random.default_rng(0)
    verdicts = {m: [{"shape": bool(a), "color": bool(b), "all": bool(a and b)} for a, b in rng.random((len(prompts), 2)) < p**0.5] for m, p in SKILL.items()}
    chain = [name for name in SKILL if name not in ("teacher", "teacher_4step", "untrained_4step")]
    edited = {m: [{"done": bool(x < 0.5), "kept_mae": float(4 + 6 * x)} for x in rng.random(len(edits))] for m in chain}
    truth = {m: np.array([v["all"] for v in rows], float) for m, rows in verdicts.items()}
    figures: dict[str, Figure | None] = {f"t2i/accuracy/{m}": boot.mean(values) for m, values in truth.items()}
    for kind in SMALL.kinds:
        chosen = [i for i, item in enumerate(prompts) if item.kind == kind]
        figures |= {f"t2i/accuracy_by_kind/{kind}/{m}": boot.mean(values[chosen]) for m, values in truth.items()}
    figures |= {f"t2i/attribute/{a}/{m}": boot.mean([v[a] for v in rows]) for m, rows in verdicts.items() for a in ("shape", "color")}
    figures |= {f"edit/done/{m}": boot.mean([v["done"] for v in rows]) for m, rows in edited.items()}
    figures |= {f"edit/kept_mae/{m}": boot.mean([v["kept_mae"] for v in rows]) for m, rows in edited.items()}
    figures |= {
        "rl/gain": boot.difference(truth["rlhf"], truth["sft"]),
        "distill/retention": boot.ratio(truth["distill"], truth["teacher"]),
    }
    figures |= {
        "vae/psnr_world": boot.mean(rng.normal(31, 1, 40)),
        "vae/ssim_world": boot.mean(rng.normal(0.95, 0.01, 40)),
        "vae/ceiling": boot.mean(np.ones(40)),
    }
    figures |= {
        "edit/done_source": boot.mean(np.zeros(len(edits))),
        "edit/vae_floor_mae": boot.mean(rng.normal(3, 0.2, len(edits))),
        "edit/done_ceiling": boot.mean(np.ones(len(edits))),
    }
    figures |= _enhancer(folder, [p.prompt for p in prompts], boot)
    models = {
        m: {
            "steps": 4 if "4" in m or m == "distill" else 16,
            "guidance": 1.0 if m == "distill" else 2.5,
            "evaluations": 4,
            "seconds": 3.0,
            "images": len(prompts),
        }
        for m in SKILL
    }
    words = [{"id": str(i), "kind": ("word", "beside")[i % 2], "prompt": f"the word {w}", "script": "Latin", "letters": 2} for i, w in enumerate(("TV", "ZI"))]
    read = {m: [{"score": 1.0, "all": True}, {"score": 0.5, "all": False}] for m in ("sft", "rlhf", "distill")}
    facts = {"about": "Two-letter words", "task": "t2i", "images": 1, "label": "text-protocol/world-checker", "scorer": "world-checker", "scale": [0, 1]}
    figures |= {f"suite/world-text/text-protocol/world-checker/score/{m}": boot.mean([row["score"] for row in rows]) for m, rows in read.items()}
    results = {
        "suite/world-text": {"facts": facts, "items": words, "results": read},
        "suite": {"seed": 0, "t2i_n": len(prompts), "resamples": 1000, "hashes": {"t2i": "ab" * 32}},
        "shown": SMALL.shown,
        "figures": {name: figure.to_json() for name, figure in figures.items() if figure},
        "models": models,
        "t2i": {"items": [{"id": p.id, "kind": p.kind, "prompt": p.prompt} for p in prompts], "results": verdicts},
        "edit": {
            "items": [{"id": e.id, "kind": e.kind, "prompt": e.prompt, "references": len(e.edit.references)} for e in edits],
            "results": edited,
        },
    }
    (folder / "results.json").write_text(json.dumps(results))
    _save(render(prompts[0].scene, 64), folder, [f"{m}/suite/world-text-1" for m in read])
    for k in range(SMALL.shown):
        _save(render(prompts[k].scene, 64), folder, [f"{m}/t2i-{k}" for m in SKILL])
        _save(edits[k].target(64), folder, [f"{m}/edit-{k}" for m in (*chain, "target")])
        for j, image in enumerate(edits[k].references(64)):
            _save(image, folder, [f"source/edit-{k}-{j}"])
        _save(render(prompts[k].scene, 64), folder, [f"vae/world-{k}-original", f"vae/world-{k}-decoded"])


def _save(image: Image.Image, folder: Path, names: Sequence[str]) -> None:
    for name in names:
        path = folder / "samples" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)


def _enhancer(folder: Path, prompts: Sequence[str], boot: Bootstrap) -> dict[str, Figure | None]:
    """What the enhancer's exam leaves beside the other suites."""
    right = {version: np.arange(len(prompts)) % 10 < tenths for version, tenths in zip(LABELS, (9, 3, 7, 8, 9), strict=True)}
    rows = [
        {"kind": "one", "strategies": ["terse"], "reasoning": "search words", "fallback": "", "prompts": dict.fromkeys(LABELS, prompt)}
        | {"right": {version: bool(values[i]) for version, values in right.items()}}
        for i, prompt in enumerate(prompts)
    ]
    (folder / RESULTS).write_text(json.dumps({"generator": "distill", "shown": SMALL.shown, "items": {"t2i": rows}}))
    figures: dict[str, Figure | None] = {f"enhancer/t2i/accuracy/{version}": boot.mean(values) for version, values in right.items()}
    return figures | {"enhancer/t2i/gain": boot.difference(right["rewritten"], right["short"])}
