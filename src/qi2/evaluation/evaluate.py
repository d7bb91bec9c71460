"""Evaluation: every model on the same held-out prompts and noise, judged by exact checkers (report sections 4.2, 4.3, 5)."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from qi2.core.errors import QI2Error
from qi2.core.publish import publish
from qi2.core.reporter import Reporter
from qi2.evaluation import score
from qi2.evaluation.bootstrap import Bootstrap, Figure
from qi2.evaluation.generate import draw, encode_suite
from qi2.evaluation.models import Contender, chain_contenders, contenders
from qi2.evaluation.reconstruct import heldout_photos, judge_vae, reconstruct
from qi2.evaluation.samples import Samples
from qi2.evaluation.suites import edit_suite, fingerprint, t2i_suite, vae_suite
from qi2.models.condition import ConditionEncoder
from qi2.models.mmdit import MMDiT
from qi2.models.vae import VAE


def evaluate(cfg: Any, runs: Path, out: Path, reporter: Reporter) -> dict[str, Figure]:
    """Evaluate the chain of ``runs`` (``cfg``: its Recipe) with both few-step baselines, and publish the results to ``out``.

    Raises QI2Error when no model of the chain has been trained.
    """
    runs = Path(runs)
    entries = chain_contenders(cfg, runs)
    if not entries:
        raise QI2Error(f"{runs} has no trained model to evaluate; run stage pretrain first")
    return _publish(cfg, entries, runs / "vae", runs / "standins", runs / "raw", out, reporter)


def evaluate_models(
    cfg: Any, models: Mapping[str, Path], vae: Path, standins: Path, out: Path, reporter: Reporter, raw: Path | None = None
) -> dict[str, Figure]:
    """Evaluate any model folders, e.g. champion and challenger, on the same suites, and publish the results to ``out``.

    A distilled student is sampled by its few steps, every other model with ``evaluate.chain_steps``. Photographs need ``raw``.
    """
    return _publish(cfg, contenders(cfg, models, cfg.evaluate.chain_steps), Path(vae), Path(standins), raw, out, reporter)


def _publish(
    cfg: Any, entries: Sequence[Contender], vae: Path, standins: Path, raw: Path | None, out: Path, reporter: Reporter
) -> dict[str, Figure]:
    with publish(out) as staging, torch.random.fork_rng(devices=[]):  # building a network draws its first weights
        samples = Samples(staging, reporter, cfg.evaluate.shown, cfg.evaluate.tracked)
        exam = Exam(cfg, VAE.load(vae), ConditionEncoder.load(standins / "vlm"), samples)
        for entry in entries:
            exam.sit(entry)
        figures = exam.figures() | exam.reconstructions(raw)
        exam.write(staging, figures)
        reporter.metrics({name: figure.value for name, figure in figures.items()}, 0)
    return figures


class Exam:
    """Suites encoded once, and the verdicts on every model that has sat it."""

    def __init__(self, cfg: Any, vae: VAE, encoder: ConditionEncoder, samples: Samples) -> None:
        self.cfg, self.config, self.vae, self.samples = cfg, cfg.evaluate, vae, samples
        self.boot = Bootstrap(self.config.seed, self.config.resamples)
        self.prompts, self.edits = t2i_suite(self.config), edit_suite(self.config)
        size, texts, instructions = self.config.size, [i.prompt for i in self.prompts], [i.prompt for i in self.edits]
        self.references = [item.references(size) for item in self.edits]
        self.sources = [images[0] for images in self.references]
        none: list[list[Any]] = [[] for _ in texts]
        self.encoded = {
            "t2i": encode_suite(encoder, vae, texts, none, [i.noise_seed for i in self.prompts], size),
            "edit": encode_suite(encoder, vae, instructions, self.references, [i.noise_seed for i in self.edits], size),
        }
        self.t2i: dict[str, list[score.Verdict]] = {}
        self.edited: dict[str, list[score.Verdict]] = {}
        self.models: dict[str, dict[str, Any]] = {}
        self._drawn: dict[tuple[Any, ...], str] = {}

    def sit(self, entry: Contender) -> None:
        """Draw and judge the suites with one contender; one with the same model and sampler as an earlier one shares its verdicts."""
        twin = self._drawn.setdefault(entry.sampler(), entry.name)
        if twin != entry.name:
            self.t2i[entry.name] = self.t2i[twin]
            self.samples.keep(entry.name, "t2i", self.samples.kept[twin, "t2i"])
            self.models[entry.name] = self.models[twin]
            return
        model, started = MMDiT.load(entry.folder), time.monotonic()
        pictures = draw(model, entry, self.encoded["t2i"], self.vae, self.cfg.sampler.shift, self.config.batch)
        self.models[entry.name] = _facts(entry, len(pictures), time.monotonic() - started)
        self.t2i[entry.name] = score.judge_t2i(pictures, self.prompts)
        self.samples.keep(entry.name, "t2i", pictures)
        if entry.edits and self.edits:
            pictures = draw(model, entry, self.encoded["edit"], self.vae, self.cfg.sampler.shift, self.config.batch)
            self.edited[entry.name] = score.judge_edits(pictures, self.edits, self.sources)
            self.samples.keep(entry.name, "edit", pictures)
        self.samples.track(entry.name)

    def figures(self) -> dict[str, Figure]:
        """All figures about models, and what editing is read against."""
        figures = score.t2i_figures(self.boot, self.prompts, self.t2i) | score.comparisons(self.boot, self.prompts, self.t2i)
        if self.edits:
            perfect = reconstruct(self.vae, [item.target(self.config.size) for item in self.edits], self.config.batch)
            unchanged = score.judge_edits(self.sources, self.edits, self.sources)
            figures |= score.edit_figures(self.boot, self.edits, self.edited)
            figures |= score.reference_figures(self.boot, unchanged, score.judge_edits(perfect, self.edits, self.sources))
        return figures

    def reconstructions(self, raw: Path | None) -> dict[str, Figure]:
        """PSNR, SSIM and the checker's ceiling of the VAE on held-out world images, and on photographs where ``raw`` has some."""
        photos = heldout_photos(raw, self.config) if raw else []
        return judge_vae(self.vae, vae_suite(self.config), photos, self.config, self.boot, self.samples)

    def write(self, folder: Path, figures: Mapping[str, Figure]) -> None:
        """results.json (everything), metrics.json (flat values) and the grids."""
        self.samples.t2i_grid(self.prompts, self.t2i)
        if self.edits:
            self.samples.edit_sources(self.edits, self.references, [item.target(self.config.size) for item in self.edits])
            self.samples.edit_grid(self.edits, self.edited)
        results = {
            "suite": self._suite(),
            "shown": self.config.shown,
            "figures": {name: figure.to_json() for name, figure in figures.items()},
            "models": self.models,
            "t2i": {"items": [{"id": i.id, "kind": i.kind, "prompt": i.prompt} for i in self.prompts], "results": self.t2i},
            "edit": {"items": [_edit_facts(item) for item in self.edits], "results": self.edited},
        }
        (folder / "results.json").write_text(json.dumps(results, indent=1))
        (folder / "metrics.json").write_text(json.dumps({name: figure.value for name, figure in figures.items()}, indent=1))

    def _suite(self) -> dict[str, Any]:
        hashes = {"t2i": fingerprint(self.prompts), "edit": fingerprint(self.edits)}
        return {**asdict(self.config), "t2i_n": len(self.prompts), "edit_n": len(self.edits), "hashes": hashes}


def _facts(entry: Contender, images: int, seconds: float) -> dict[str, Any]:
    return {
        "folder": entry.folder.name,
        "steps": entry.steps,
        "guidance": 1.0 if entry.renoise else entry.guidance,
        "edit_guidance": 1.0 if entry.renoise else entry.edit_guidance,
        "renoise": entry.renoise,
        "evaluations": entry.evaluations(),
        "images": images,
        "seconds": seconds,
    }


def _edit_facts(item: Any) -> dict[str, Any]:
    return {"id": item.id, "kind": item.kind, "prompt": item.prompt, "references": len(item.edit.references)}
