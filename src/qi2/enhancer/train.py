"""Train the prompt enhancer and publish it (report section 3.3): triplets, SFT, then RL with the frozen generator in the loop."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from qi2.config import as_dict
from qi2.core.publish import file_sha256, publish
from qi2.core.reporter import FileReporter, Reporter, Reporters
from qi2.data.shards import Sidecar
from qi2.enhancer import lm
from qi2.enhancer.enhance import Enhancer
from qi2.enhancer.llm import LLMDegrader
from qi2.enhancer.painter import Painter
from qi2.enhancer.request import Request
from qi2.enhancer.rewards import Judge, Scorer
from qi2.enhancer.rl import train_rl
from qi2.enhancer.sft import train_sft
from qi2.enhancer.triplets import Degrade, Degrader, Triplet, annotations, build, figures, sound, write_triplets
from qi2.training.encode import square

if TYPE_CHECKING:
    from qi2.recipe import Recipe

SFT = "sft"  # the model before RL, beside the one after it
HELD = 64  # triplets that SFT does not see, for the figures of the stage
TRIPLETS = "triplets.jsonl"


@dataclass
class EnhancerInputs:
    """Folder of the annotated rows, the generator's size, and where checkpoints go."""

    raw: Path
    size: int  # pixels of the pictures that the painter draws
    checkpoints: Path | None = None


def train_enhancer(cfg: "Recipe", inputs: EnhancerInputs, painter: Painter, scorers: Mapping[str, Scorer], out: Path, reporter: Reporter) -> dict[str, float]:
    """Write the language model as transformers does, ``enhancer.json``, the SFT model in ``sft/``, the triplets, metrics.json and curves.csv to ``out``.

    painter: the frozen generator. scorers: the run's reward models by name, where a reward needs them.
    """
    config = cfg.enhancer
    with publish(out) as staging, tempfile.TemporaryDirectory(prefix="qi2-enhancer-") as scratch:
        reporters = Reporters(reporter, FileReporter(staging))
        side = Sidecar.load(inputs.raw)
        triplets, metrics = make_triplets(cfg, side)
        write_triplets(staging / TRIPLETS, triplets)
        facts = {"seed": cfg.seed, "enhancer": as_dict(config), "triplets": file_sha256(staging / TRIPLETS)}
        held, learned = triplets[:HELD], triplets[HELD:] or triplets
        start, tokenizer = lm.start(config.model, _texts(learned), cfg.seed)
        model = lm.adapted(start, config.model.lora_rank)
        train_sft(model, tokenizer, learned, config, cfg.seed, reporters, Path(scratch), _below(inputs, SFT), facts)
        enhancer = Enhancer(lm.merged(model).eval(), tokenizer, dict(config.instructions), config.limits)
        enhancer.save(staging / SFT)
        metrics |= _exact(enhancer, held, SFT)
        if config.rl.steps:
            asked = learned[: config.rl.steps * config.rl.prompts]
            judge = Judge(enhancer, asked, painter, scorers, config.rl.images, cfg.seed, _pictures(side, inputs.size))
            tuned = lm.adapted(lm.load(staging / SFT)[0], config.model.lora_rank)
            train_rl(tuned, tokenizer, asked, judge, config, cfg.seed, reporters, Path(scratch), _below(inputs, "rl"), facts)
            enhancer = Enhancer(lm.merged(tuned).eval(), tokenizer, dict(config.instructions), config.limits)
            metrics |= {
                **_exact(enhancer, held, "rl"),
                "enhancer/pictures_drawn": float(judge.painter.drawn),
                "enhancer/pictures_asked": float(judge.painter.asked),
            }
        enhancer.save(staging)
        reporters.text("rewrites.md", _shown(enhancer, held[:24]))
        reporter.metrics(metrics, config.sft.steps + config.rl.steps)
        (staging / "metrics.json").write_text(json.dumps(metrics, indent=1))
    return metrics


def make_triplets(cfg: "Recipe", side: Sidecar) -> tuple[list[Triplet], dict[str, float]]:
    """The training triplets that pass every check, and what they are made of."""
    config = cfg.enhancer.triplets
    degrade: Degrade = LLMDegrader(config, Degrader(config)) if config.llm else Degrader(config)
    made = build(annotations(side.table, config), config, degrade, cfg.seed)
    kept = [triplet for triplet in made if sound(triplet, cfg.enhancer.limits)]
    return kept, figures(kept) | {"triplets/kept": float(len(kept)), "triplets/refused": float(len(made) - len(kept))}


def _texts(triplets: Sequence[Triplet]) -> list[str]:
    """What a tokenizer learns from."""
    return [text for t in triplets for text in (f" {t.short}", f" {t.reasoning}", f" {t.fine}")]


def _below(inputs: EnhancerInputs, name: str) -> Path | None:
    return inputs.checkpoints / name if inputs.checkpoints else None


def _pictures(side: Sidecar, size: int) -> Callable[[str], Image.Image]:
    """The source picture of a row's id, as the generator takes it."""
    kept: dict[str, Image.Image] = {}

    def picture(name: str) -> Image.Image:
        if name not in kept:
            kept[name] = square(side.image(name), size)
        return kept[name]

    return picture


def _exact(enhancer: Enhancer, held: Sequence[Triplet], name: str) -> dict[str, float]:
    """On triplets that were not learned: share of rewrites that can be used, and that are the annotation itself."""
    rewrites = enhancer.enhance([Request(t.short, t.task) for t in held])
    used = sum(not r.fallback for r in rewrites) / max(1, len(held))
    same = sum(r.text == t.fine for r, t in zip(rewrites, held, strict=True)) / max(1, len(held))
    return {f"enhancer/{name}_usable": used, f"enhancer/{name}_exact": same}


def _shown(enhancer: Enhancer, held: Sequence[Triplet]) -> str:
    """Some rewrites as a Markdown table."""
    rewrites = enhancer.enhance([Request(t.short, t.task) for t in held])
    rows = [f"| {_cell(r.original)} | {_cell(r.reasoning)} | {_cell(r.text)} | {_cell(r.fallback)} |" for r in rewrites]
    return "\n".join(["| prompt | reasoning | rewritten | why the original stands |", "|---|---|---|---|", *rows, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
