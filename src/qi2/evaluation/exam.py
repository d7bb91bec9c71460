"""One sitting: every model drawn on the same prompts and noise, and the verdicts on its pictures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from qi2.evaluation import score
from qi2.evaluation.bootstrap import Bootstrap, Figure
from qi2.evaluation.drawing import draw, jobs_of
from qi2.evaluation.models import Contender
from qi2.evaluation.painter import ModelPainter, Studio
from qi2.evaluation.reconstruct import judge_vae, photo_set, reconstruct, world_set
from qi2.evaluation.samples import Samples
from qi2.evaluation.store import Store
from qi2.evaluation.suite_exam import SuiteExam
from qi2.evaluation.suites.world import EditItem, Prompt, edit_suite, fingerprint, t2i_suite
from qi2.models.vae import VAE


@dataclass(frozen=True)
class Folders:
    """Results of other stages that an evaluation reads; ``raw`` is needed for photographs and for a user's own images only.

    ``curated`` says which of their held-out rows are copies of earlier training data.
    """

    vae: Path
    standins: Path
    raw: Path | None = None
    curated: Path | None = None


class Exam:
    """The procedural world's held-out suites with exact checkers."""

    def __init__(self, cfg: Any, folders: Folders, samples: Samples, store: Store) -> None:
        self.cfg, self.config, self.folders, self.samples, self.store = cfg, cfg.evaluate, folders, samples, store
        self.studio = Studio(folders.vae, folders.standins / "vlm", store, self.config.size, self.config.batch, self.config.workers, self.config.device)
        self.boot = Bootstrap(self.config.seed, self.config.resamples)
        self.prompts: Sequence[Any]
        self.prompts, self.edits = self.suites()
        self.references = [item.references(self.config.size) for item in self.edits]
        self.sources = [images[0] for images in self.references]
        self.t2i: dict[str, list[score.Verdict]] = {}
        self.edited: dict[str, list[score.Verdict]] = {}
        self.models: dict[str, dict[str, Any]] = {}

    def suites(self) -> tuple[Sequence[Prompt], list[EditItem]]:
        """Text-to-image prompts and edits."""
        return t2i_suite(self.config), edit_suite(self.config)

    def judge(self, pictures: Sequence[Image.Image]) -> list[score.Verdict]:
        """Verdicts on pictures of the text-to-image suite."""
        return score.judge_t2i(pictures, self.prompts)

    def sit(self, entry: Contender) -> None:
        """Draw and judge the suites with one contender."""
        painter = ModelPainter(self.studio, entry, self.config.dtype)
        pictures, seconds = self._draw(painter, "t2i", self.prompts, [[] for _ in self.prompts])
        self.models[entry.name] = _facts(entry, len(pictures), seconds)
        self.t2i[entry.name] = self.judge(pictures)
        if entry.edits and self.edits:
            pictures, seconds = self._draw(painter, "edit", self.edits, self.references)
            self.models[entry.name]["edit_seconds"] = seconds
            self.edited[entry.name] = score.judge_edits(pictures, self.edits, self.sources)
        self.samples.track(entry.name)

    def _draw(self, painter: ModelPainter, suite: str, items: Sequence[Prompt], references: Sequence[list[Image.Image]]) -> tuple[list[Image.Image], float]:
        """The pictures of a suite, and what drawing them took, now or before."""
        jobs = jobs_of(painter, [item.prompt for item in items], references, [item.noise_seed for item in items])
        drawn = draw(painter, jobs, self.store, exact=True)
        pictures = drawn.open(self.store)
        self.samples.keep(painter.name, suite, pictures)
        return pictures, drawn.spent_s

    def figures(self) -> dict[str, Figure]:
        """All figures about models, and what editing is read against."""
        figures = score.t2i_figures(self.boot, self.prompts, self.t2i) | score.comparisons(self.boot, self.prompts, self.t2i)
        if self.edits:
            targets = reconstruct(self.studio.vae, [item.target(self.config.size) for item in self.edits], self.config.batch)
            perfect, unchanged = (score.judge_edits(group, self.edits, self.sources) for group in (targets, self.sources))
            reference = score.reference_figures(self.boot, unchanged, perfect)
            figures |= reference | score.edit_figures(self.boot, self.edits, self.edited, reference["edit/vae_floor_mae"].value)
        return figures

    def reconstructions(self) -> dict[str, Figure]:
        """PSNR, SSIM and the checker's ceiling of the VAE on held-out world images, and on held-out photographs where there are any."""
        sets = world_set(self.config) + photo_set(self.folders.raw, self.folders.curated, self.config)
        return judge_vae(self.studio.vae, self.linear_start(), sets, self.config.batch, self.boot, self.samples)

    def linear_start(self) -> VAE | None:
        """What the VAE was before training, where that is a linear codec to compare with."""
        start = self.folders.vae / "start"
        return VAE.load(start).to(self.studio.vae.latent_mean.device) if self.studio.vae.cfg.linear_skip and start.exists() else None

    def write(self, folder: Path, figures: Mapping[str, Figure], suites: SuiteExam) -> None:
        """results.json (everything), metrics.json (flat values) and the grids."""
        self.samples.t2i_grid(self.prompts, self.t2i)
        if self.edits:
            self.samples.edit_sources(self.references, [item.target(self.config.size) for item in self.edits])
            self.samples.edit_grid(self.edits, self.edited)
        results = {
            "suite": self._suite(suites.hashes()),
            "shown": self.config.shown,
            "figures": {name: figure.to_json() for name, figure in figures.items()},
            "models": self.models,
            "t2i": {"items": [{"id": i.id, "kind": i.kind, "prompt": i.prompt} for i in self.prompts], "results": self.t2i},
            "edit": {"items": [_edit_facts(item) for item in self.edits], "results": self.edited},
            **suites.kept(),
        }
        (folder / "results.json").write_text(json.dumps(results, indent=1))
        (folder / "metrics.json").write_text(json.dumps({name: figure.value for name, figure in figures.items()}, indent=1))

    def _suite(self, others: Mapping[str, str]) -> dict[str, Any]:
        hashes = {"t2i": fingerprint(self.prompts), "edit": fingerprint(self.edits), **others}
        return {**asdict(self.config), "t2i_n": len(self.prompts), "edit_n": len(self.edits), "hashes": hashes}


def _facts(entry: Contender, images: int, seconds: float) -> dict[str, Any]:
    return {
        "folder": entry.folder.name,
        "steps": entry.schedule.steps,
        "shift": entry.schedule.shift,
        "guidance": entry.guidance,
        "edit_guidance": entry.edit_guidance,
        "evaluations": entry.evaluations(),
        "images": images,
        "seconds": seconds,
    }


def _edit_facts(item: EditItem) -> dict[str, Any]:
    return {"id": item.id, "kind": item.kind, "prompt": item.prompt, "references": len(item.edit.references)}
