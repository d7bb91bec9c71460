"""Train the prompt enhancer and publish it (report section 3.3), in two stages: SFT on triplets, then RL with the frozen generator in the loop."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

from qi2.config import as_dict
from qi2.core import rng
from qi2.core.errors import QI2Error
from qi2.core.publish import file_sha256, publish
from qi2.core.reporter import FileReporter, Reporter, Reporters
from qi2.data.shards import Sidecar
from qi2.enhancer import lm
from qi2.enhancer.anchor import Anchor
from qi2.enhancer.config import EnhancerRLConfig
from qi2.enhancer.enhance import Enhancer
from qi2.enhancer.llm import LLMDegrader
from qi2.enhancer.painter import Painter
from qi2.enhancer.request import Request
from qi2.enhancer.reserve import divide
from qi2.enhancer.rewards import Judge, Scorer
from qi2.enhancer.rl import train_rl
from qi2.enhancer.sft import train_sft
from qi2.enhancer.template import FULL
from qi2.enhancer.triplets import Degrade, Degrader, Triplet, annotations, build, figures, read_triplets, sound, write_triplets
from qi2.training.encoded import ROWS
from qi2.training.pictures import square

if TYPE_CHECKING:
    from qi2.recipe import Recipe

HELD = 64  # triplets that neither stage sees, for their figures
SHOWN = 24  # of them
TRIPLETS = "triplets.jsonl"  # of SFT
RESERVED = "reserved.jsonl"  # of RL alone


@dataclass
class EnhancerInputs:
    """What RL reads: the SFT model with its triplets, the rows whose pictures are edited, and where checkpoints go."""

    start: Path
    raw: Path
    checkpoints: Path | None = None


def train_enhancer_sft(cfg: "Recipe", raw: Path, encoded: Path, out: Path, reporter: Reporter, checkpoints: Path | None = None) -> dict[str, float]:
    """Write the language model as transformers does, ``enhancer.json``, the triplets, metrics.json and curves.csv to ``out``.

    raw: the annotated rows; encoded: those of them that the generator learns from. It needs no generator, so that it can be trained beside one.
    """
    config = cfg.enhancer
    with publish(out) as staging, tempfile.TemporaryDirectory(prefix="qi2-enhancer-") as scratch:
        reporters = Reporters(reporter, FileReporter(staging))
        triplets, reserved, metrics = make_triplets(cfg, learned_rows(raw, encoded))
        write_triplets(staging / TRIPLETS, triplets)
        write_triplets(staging / RESERVED, reserved)
        held, learned = triplets[:HELD], triplets[HELD:] or triplets
        start, tokenizer = lm.start(config.model, _texts(learned), cfg.seed, config.device)
        model = lm.adapted(start, config.model.lora_rank)
        facts = {"seed": cfg.seed, "enhancer": as_dict(config), "triplets": file_sha256(staging / TRIPLETS)}
        train_sft(model, tokenizer, learned, config, cfg.seed, reporters, Path(scratch), checkpoints, facts)
        enhancer = Enhancer(lm.merged(model).eval(), tokenizer, dict(config.instructions), config.limits)
        metrics |= _finish(enhancer, held, staging, reporters) | {"enhancer_sft/steps": float(config.sft.steps)}
        reporter.metrics(metrics, config.sft.steps)
        (staging / "metrics.json").write_text(json.dumps(metrics, indent=1))
    return metrics


def train_enhancer(cfg: "Recipe", inputs: EnhancerInputs, painter: Painter, scorers: Mapping[str, Scorer], out: Path, reporter: Reporter) -> dict[str, float]:
    """Write the same after RL with the frozen generator in the loop; with no steps of it, the SFT model as it is.

    painter: the generator. scorers: the run's reward models by name, where a reward needs them.
    """
    config, rl = cfg.enhancer, cfg.enhancer.rl
    if rl.save_every % rl.updates:
        raise QI2Error(f"enhancer.rl.save_every={rl.save_every} is no multiple of updates={rl.updates}: a checkpoint stands between batches of rewrites")
    with publish(out) as staging, tempfile.TemporaryDirectory(prefix="qi2-enhancer-") as scratch:
        reporters = Reporters(reporter, FileReporter(staging))
        triplets = read_triplets(inputs.start / TRIPLETS)
        held, asked = triplets[:HELD], _asked(read_triplets(inputs.start / RESERVED) or triplets[HELD:] or triplets, rl, cfg.seed)
        before, metrics = Enhancer.load(inputs.start, config.device), {"enhancer/steps": float(rl.steps)}
        model = lm.adapted(before.model, config.model.lora_rank)
        if rl.steps:
            judge = Judge(before, asked, painter, scorers, rl.images, cfg.seed, _pictures(Sidecar.load(inputs.raw), config.size))
            facts = {"seed": cfg.seed, "enhancer": as_dict(config), "triplets": [file_sha256(inputs.start / name) for name in (TRIPLETS, RESERVED)]}
            anchor = Anchor(before.tokenizer, triplets[HELD:] or triplets, config, cfg.seed)
            train_rl(model, before.tokenizer, asked, judge, anchor, config, cfg.seed, reporters, Path(scratch), inputs.checkpoints, facts)
            drawn = {"speed/pictures_drawn": float(judge.painter.drawn), "speed/pictures_asked": float(judge.painter.asked)}
            reporter.metrics(drawn, rl.steps)  # since the last start of this process: no part of the result
        enhancer = Enhancer(lm.merged(model).eval(), before.tokenizer, dict(config.instructions), config.limits)
        metrics |= _finish(enhancer, held, staging, reporters)
        reporter.metrics(metrics, rl.steps)
        (staging / "metrics.json").write_text(json.dumps(metrics, indent=1))
    return metrics


def _asked(triplets: Sequence[Triplet], rl: EnhancerRLConfig, seed: int) -> list[Triplet]:
    """The prompts of RL: those that are not full already, by the weights of their kinds."""
    short = [t for t in triplets if t.reasoning != FULL] or list(triplets)
    n = -(-rl.steps // rl.updates) * rl.prompts
    if not rl.kinds:
        return short[:n]
    by_kind = {kind: own for kind in rl.kinds if (own := [t for t in short if t.kind == kind])}
    if not by_kind:
        raise QI2Error(f"enhancer.rl.kinds: no triplet is of kind {', '.join(rl.kinds)}; kinds are {', '.join(sorted({t.kind for t in short}))}")
    weights = np.array([rl.kinds[kind] for kind in by_kind])
    drawn = rng.numpy_rng(seed, "enhancer/rl/kinds").choice(list(by_kind), size=n, p=weights / weights.sum())
    turns = dict.fromkeys(by_kind, 0)
    asked = []
    for kind in drawn:
        asked.append(by_kind[kind][turns[kind] % len(by_kind[kind])])
        turns[kind] += 1
    return asked


def _finish(enhancer: Enhancer, held: Sequence[Triplet], staging: Path, reporter: Reporter) -> dict[str, float]:
    """Save the enhancer and show some rewrites; on triplets that were not learned: shares of rewrites that can be used, and that are the annotation itself."""
    enhancer.save(staging)
    rewrites = enhancer.enhance([Request(t.short, t.task) for t in held])
    rows = [f"| {_cell(r.original)} | {_cell(r.reasoning)} | {_cell(r.text)} | {_cell(r.fallback)} |" for r in rewrites[:SHOWN]]
    reporter.text("rewrites.md", "\n".join(["| prompt | reasoning | rewritten | why the original stands |", "|---|---|---|---|", *rows, ""]))
    used = sum(not r.fallback for r in rewrites) / max(1, len(held))
    same = sum(r.text == t.fine for r, t in zip(rewrites, held, strict=True)) / max(1, len(held))
    return {"enhancer/usable": used, "enhancer/exact": same}


def learned_rows(raw: Path, encoded: Path) -> pd.DataFrame:
    """The raw rows that curation kept and the generator is trained on: nothing else may be promised to it."""
    table, ids = Sidecar.load(raw).table, pd.read_parquet(encoded / ROWS, columns=["id"])["id"]
    return table[table["id"].isin(ids)]


def make_triplets(cfg: "Recipe", table: pd.DataFrame) -> tuple[list[Triplet], list[Triplet], dict[str, float]]:
    """The triplets of SFT and those kept for RL (``reserve``) that pass every check, and what the former are made of."""
    config = cfg.enhancer.triplets
    degrade: Degrade = LLMDegrader(config, Degrader(config), cfg.enhancer.device) if config.llm else Degrader(config)
    learned, kept_back, reserved = divide(annotations(table, config), config.reserve, cfg.seed)
    made = build(learned, config, degrade, cfg.seed)
    own = build(kept_back, replace(config, pool=round(config.pool * config.reserve), examples=[]), degrade, cfg.seed)
    own += [triplet for triplet in made if reserved(triplet.fine)]  # examples of the user or the flywheel
    for_sft, for_rl = ([t for t in group if sound(t, cfg.enhancer.limits)] for group in ([t for t in made if not reserved(t.fine)], own))
    refused = len(made) + len(own) - len(for_sft) - len(for_rl)
    counts = {"triplets/kept": len(for_sft), "triplets/reserved": len(for_rl), "triplets/refused": refused}
    return for_sft, for_rl, figures(for_sft) | {name: float(n) for name, n in counts.items()}


def _texts(triplets: Sequence[Triplet]) -> list[str]:
    """What a tokenizer learns from."""
    return [text for t in triplets for text in (f" {t.short}", f" {t.reasoning}", f" {t.fine}")]


def _pictures(side: Sidecar, size: int) -> Callable[[str], Image.Image]:
    """The source picture of a row's id, as the generator takes it."""
    kept: dict[str, Image.Image] = {}

    def picture(name: str) -> Image.Image:
        if name not in kept:
            kept[name] = square(side.image(name), size)
        return kept[name]

    return picture


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
