"""One sitting: suites encoded once, every model drawn on the same prompts and noise, and the verdicts on its pictures."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from qi2.evaluation import score
from qi2.evaluation.bootstrap import Bootstrap, Figure
from qi2.evaluation.generate import Drawing, draw, encode_suite
from qi2.evaluation.models import Contender
from qi2.evaluation.reconstruct import judge_vae, photo_set, reconstruct, world_set
from qi2.evaluation.samples import Samples
from qi2.evaluation.suites.world import EditItem, Prompt, edit_suite, fingerprint, t2i_suite
from qi2.models.condition import ConditionEncoder
from qi2.models.mmdit import MMDiT
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

    def __init__(self, cfg: Any, folders: Folders, samples: Samples) -> None:
        self.cfg, self.config, self.folders, self.samples = cfg, cfg.evaluate, folders, samples
        self.vae, self.boot = VAE.load(folders.vae), Bootstrap(self.config.seed, self.config.resamples)
        encoder = ConditionEncoder.load(folders.standins / "vlm")
        self.prompts: Sequence[Any]
        self.prompts, self.edits = self.suites()
        self.references = [item.references(self.config.size) for item in self.edits]
        self.sources = [images[0] for images in self.references]
        self.encoded = {"t2i": self._encode(encoder, self.prompts, [[] for _ in self.prompts])}
        if self.edits:
            self.encoded["edit"] = self._encode(encoder, self.edits, self.references)
        self.t2i: dict[str, list[score.Verdict]] = {}
        self.edited: dict[str, list[score.Verdict]] = {}
        self.models: dict[str, dict[str, Any]] = {}
        self._drawn: dict[tuple[Any, ...], str] = {}

    def suites(self) -> tuple[Sequence[Prompt], list[EditItem]]:
        """Text-to-image prompts and edits."""
        return t2i_suite(self.config), edit_suite(self.config)

    def judge(self, pictures: Sequence[Image.Image]) -> list[score.Verdict]:
        """Verdicts on pictures of the text-to-image suite."""
        return score.judge_t2i(pictures, self.prompts)

    def _encode(self, encoder: ConditionEncoder, items: Sequence[Prompt], references: list[list[Image.Image]]) -> Any:
        prompts, seeds = [item.prompt for item in items], [item.noise_seed for item in items]
        return encode_suite(encoder, self.vae, prompts, references, seeds, self.config.size)

    def sit(self, entry: Contender) -> None:
        """Draw and judge the suites with one contender; one with the same model and sampler as an earlier one shares its verdicts."""
        twin = self._drawn.setdefault(entry.sampler(), entry.name)
        if twin != entry.name:
            self.t2i[entry.name], self.models[entry.name] = self.t2i[twin], self.models[twin]
            self.samples.keep(entry.name, "t2i", self.samples.kept[twin, "t2i"])
            return
        model, started = MMDiT.load(entry.folder), time.monotonic()
        pictures = self._draw(model, entry, "t2i")
        self.models[entry.name] = _facts(entry, len(pictures), time.monotonic() - started)
        self.t2i[entry.name] = self.judge(pictures)
        if entry.edits and self.edits:
            self.edited[entry.name] = score.judge_edits(self._draw(model, entry, "edit"), self.edits, self.sources)
        self.samples.track(entry.name)

    def _draw(self, model: MMDiT, entry: Contender, suite: str) -> list[Image.Image]:
        drawing = Drawing(model, entry, self.encoded[suite], self.vae, self.config.batch)
        pictures = draw(drawing, self.config.workers)
        self.samples.keep(entry.name, suite, pictures)
        return pictures

    def figures(self) -> dict[str, Figure]:
        """All figures about models, and what editing is read against."""
        figures = score.t2i_figures(self.boot, self.prompts, self.t2i) | score.comparisons(self.boot, self.prompts, self.t2i)
        if self.edits:
            targets = reconstruct(self.vae, [item.target(self.config.size) for item in self.edits], self.config.batch)
            perfect, unchanged = (score.judge_edits(group, self.edits, self.sources) for group in (targets, self.sources))
            reference = score.reference_figures(self.boot, unchanged, perfect)
            figures |= reference | score.edit_figures(self.boot, self.edits, self.edited, reference["edit/vae_floor_mae"].value)
        return figures

    def reconstructions(self) -> dict[str, Figure]:
        """PSNR, SSIM and the checker's ceiling of the VAE on held-out world images, and on held-out photographs where there are any."""
        sets = world_set(self.config) + photo_set(self.folders.raw, self.folders.curated, self.config)
        return judge_vae(self.vae, self.linear_start(), sets, self.config.batch, self.boot, self.samples)

    def linear_start(self) -> VAE | None:
        """What the VAE was before training, where that is a linear codec to compare with."""
        start = self.folders.vae / "start"
        return VAE.load(start) if self.vae.cfg.linear_skip and start.exists() else None

    def write(self, folder: Path, figures: Mapping[str, Figure]) -> None:
        """results.json (everything), metrics.json (flat values) and the grids."""
        self.samples.t2i_grid(self.prompts, self.t2i)
        if self.edits:
            self.samples.edit_sources(self.references, [item.target(self.config.size) for item in self.edits])
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
