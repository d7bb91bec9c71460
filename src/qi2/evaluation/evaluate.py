"""Evaluation: every model on the same held-out prompts and noise, judged by exact checkers (report sections 4.2, 4.3, 5)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from qi2.core.errors import QI2Error
from qi2.core.publish import publish
from qi2.core.reporter import Reporter
from qi2.enhancer.enhance import CARD
from qi2.evaluation.bootstrap import Figure
from qi2.evaluation.enhanced import ENHANCER, EnhancerExam
from qi2.evaluation.enhanced_user import UserEnhancerExam
from qi2.evaluation.exam import Exam, Folders
from qi2.evaluation.models import Contender, chain_contenders, contenders
from qi2.evaluation.painter import ModelPainter
from qi2.evaluation.samples import Samples
from qi2.evaluation.store import opened
from qi2.evaluation.suite_exam import FINAL, SuiteExam, chosen
from qi2.evaluation.user_exam import UserExam


def evaluate(cfg: Any, runs: Path, out: Path, reporter: Reporter, store: Path | None = None) -> dict[str, Figure]:
    """Evaluate the chain of ``runs`` (``cfg``: its Recipe) with both few-step baselines, and publish the results to ``out``.

    ``store``: folder of pictures that were drawn before, and that what is drawn now goes to; results are the same with and without it.
    Raises QI2Error when no model of the chain has been trained.
    """
    runs = Path(runs)
    entries = chain_contenders(cfg, runs)
    if not entries:
        raise QI2Error(f"{runs} has no trained model to evaluate; run stage pretrain first")
    enhanced = runs if (runs / ENHANCER / CARD).exists() else None
    return _publish(cfg, entries, Folders(runs / "vae", runs / "standins", runs / "raw", runs / "curated"), out, reporter, store, True, enhanced)


def evaluate_models(
    cfg: Any, models: Mapping[str, Path], vae: Path, standins: Path, out: Path, reporter: Reporter, raw: Path | None = None, curated: Path | None = None,
    store: Path | None = None,
) -> dict[str, Figure]:  # fmt: skip
    """Evaluate any model folders, e.g. champion and challenger, on the same suites, and publish the results to ``out``.

    A distilled student is sampled by its few steps, every other model with ``evaluate.chain_steps``. ``raw`` is the ingest
    stage's folder: photographs need it, and so do models that were trained on a user's own images. ``curated``: see `Folders`. ``store``: see `evaluate`.
    """
    entries = contenders(cfg, models, cfg.evaluate.chain_steps)
    return _publish(cfg, entries, Folders(Path(vae), Path(standins), raw, curated), out, reporter, store)


def _publish(
    cfg: Any, entries: Sequence[Contender], folders: Folders, out: Path, reporter: Reporter, store: Path | None, line: bool = False,
    enhanced: Path | None = None,
) -> dict[str, Figure]:  # fmt: skip
    """``line``: the models of a line, whose last ones are also evaluated on suites; ``enhanced``: a run whose prompt enhancer is evaluated too."""
    with publish(out) as staging, opened(store) as pictures, torch.random.fork_rng(devices=[]):  # building a network draws its first weights
        samples, own_images = Samples(staging, reporter, cfg.evaluate.shown, cfg.evaluate.tracked), bool(cfg.data.source)
        exam = (UserExam if own_images else Exam)(cfg, folders, samples, pictures)
        suites = SuiteExam(cfg.evaluate, chosen(cfg.evaluate, own_images) if line else [], pictures, samples)
        for entry in entries:
            exam.sit(entry)
            if entry.name in FINAL:
                suites.sit(ModelPainter(exam.studio, entry, cfg.evaluate.dtype))
        suites.show()
        figures = exam.figures() | exam.reconstructions() | suites.figures()
        drawer = next((entry for entry in entries if entry.name == cfg.enhancer.generator), None)
        if enhanced is not None and drawer is not None and cfg.enhancer.evaluate_prompts:
            painter = ModelPainter(exam.studio, drawer, cfg.evaluate.dtype)
            if isinstance(exam, UserExam):
                figures |= UserEnhancerExam(cfg, enhanced, painter, exam, samples).run()
            else:
                figures |= EnhancerExam(cfg, enhanced, painter, samples).run()
        exam.write(staging, figures, suites)
        reporter.metrics({name: figure.value for name, figure in figures.items()}, 0)
    return figures
