"""Evaluation on a user's own held-out captions, where no exact checker exists: CLIP's cosine, read between two anchors.

The anchors are the held-out images with their own captions (above) and with each other's (chance). Where no CLIP is given the
cosine is the line's small stand-in's, and the report says so.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.rng import key
from qi2.data.filters.clip import ClipScorer
from qi2.data.filters.models import ModelPaths
from qi2.data.heldout import judges
from qi2.evaluation.bootstrap import Figure
from qi2.evaluation.exam import Exam
from qi2.evaluation.reconstruct import heldout_images, judge_vae, photo_set
from qi2.evaluation.score import Verdict, column
from qi2.evaluation.suites.world import EditItem, Prompt


class UserExam(Exam):
    """Held-out captions of the user's data, at most as many as the world's suite has prompts."""

    def suites(self) -> tuple[Sequence[Prompt], list[EditItem]]:
        if self.folders.raw is None:
            raise QI2Error("models of your own images are evaluated on your held-out captions; give the raw folder of the stage ingest")
        sidecar = judges(self.folders.raw, self.folders.curated)
        table = sidecar.table
        found = heldout_images(sidecar, ("user",), self.config.prompts_per_kind * len(self.config.kinds), self.config.seed)
        captions = {name: texts[0] for name, texts in zip(table["id"], table["captions"], strict=True) if len(texts)}
        self.images = {name: image for name, image in found.items() if name in captions}
        if not self.images:
            raise QI2Error(f"{self.folders.raw} has no readable held-out image with a caption; raise data.heldout_fraction and ingest again")
        return [Prompt(name, "user", captions[name], key(self.config.seed, f"evaluate/user/{name}")) for name in self.images], []

    @cached_property
    def clip(self) -> ClipScorer:
        """The given CLIP, or the stand-in."""
        return ClipScorer(ModelPaths("", self.cfg.standins.clip.path or str(self.folders.standins / "clip"), ""))

    def judge(self, pictures: Sequence[Image.Image]) -> list[Verdict]:
        return [{"clip": float(value)} for value in self.cosine(pictures, [item.prompt for item in self.prompts])]

    def cosine(self, pictures: Sequence[Image.Image], captions: Sequence[str]) -> np.ndarray:
        """CLIP's cosine of every picture and its caption."""
        size, parts = self.config.batch, []
        for start in range(0, len(pictures), size):
            parts.append(self.clip.score(list(pictures[start : start + size]), [[text] for text in captions[start : start + size]])["clip"])
        return np.concatenate(parts)

    def figures(self) -> dict[str, Figure]:
        """t2i/clip/MODEL, both anchors, and paired differences along the chain."""
        values = {model: column(rows, "clip") for model, rows in self.t2i.items()}
        captions = [item.prompt for item in self.prompts]
        images = list(self.images.values())
        own, others = self.cosine(images, captions), self.cosine(images, captions[1:] + captions[:1])
        figures = {f"t2i/clip/{model}": self.boot.mean(rows) for model, rows in values.items()}
        figures |= {"t2i/clip_images": self.boot.mean(own), "t2i/clip_mismatched": self.boot.mean(others)}
        pairs = {"rl/clip_gain": ("rlhf", "sft"), "distill/clip_gain": ("distill", "teacher")}
        return figures | {name: self.boot.difference(values[a], values[b]) for name, (a, b) in pairs.items() if {a, b} <= values.keys()}

    def reconstructions(self) -> dict[str, Figure]:
        """PSNR and SSIM on the user's held-out images."""
        sets = photo_set(self.folders.raw, self.folders.curated, self.config)
        return judge_vae(self.studio.vae, self.linear_start(), sets, self.config.batch, self.boot, self.samples)
