"""What the prompt enhancer is worth on a user's own held-out captions, where no exact checker exists: report section 3.3 with what is known there.

Each caption is degraded as training captions are, and drawn in full, short and rewritten. Two judges read the pictures: CLIP's cosine, and the run's alignment
reward where it has one, each against the held-out caption (what was meant) and against the short prompt (what was asked). Rules read the rewrites.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qi2.enhancer.checks import script
from qi2.enhancer.request import Rewrite
from qi2.enhancer.strategies.base import quoted
from qi2.enhancer.triplets import Triplet
from qi2.evaluation.bootstrap import Bootstrap, Figure
from qi2.evaluation.enhanced import EnhancerExam
from qi2.evaluation.grids import Cell
from qi2.evaluation.painter import ModelPainter
from qi2.evaluation.samples import Samples
from qi2.evaluation.user_exam import UserExam
from qi2.evaluation.wordings import AGAIN, FULL, LABELS, REWRITTEN, SFT, SHORT, shown_rows

REWARD = "alignment"
Scores = dict[str, list[dict[str, float]]]


class UserEnhancerExam(EnhancerExam):
    """The held-out captions of an exam on a user's data, degraded, rewritten and drawn; text to image alone, as that exam is."""

    def __init__(self, cfg: Any, runs: Path, painter: ModelPainter, exam: UserExam, samples: Samples) -> None:
        self.exam, self.reward = exam, runs / "rewards" / REWARD
        super().__init__(cfg, runs, painter, samples)

    def asked(self, cfg: Any) -> dict[str, list[Triplet]]:
        """As many of the exam's captions as the world's suite has prompts."""
        most = cfg.enhancer.evaluate_prompts * len(self.config.kinds)
        return {"t2i": self.degraded(cfg, "t2i", [(item, "") for item in self.exam.prompts[:most]])}

    def judged(self, task: str, triplets: Sequence[Triplet], texts: Mapping[str, Sequence[str]]) -> Scores:
        """{wording: per prompt the scores of its picture}."""
        pictures = self.pictures(task, texts, [[] for _ in triplets])
        wanted = {"meant": [t.fine for t in triplets], "asked": [t.short for t in triplets]}
        found: Scores = {name: [{} for _ in triplets] for name in pictures}
        for judge, score in self._judges().items():
            for against, prompts in wanted.items():
                for name, group in pictures.items():
                    for row, value in zip(found[name], score(group, prompts), strict=True):
                        row[f"{judge}_{against}"] = float(value)
        rows = shown_rows(len(triplets), self.config.shown)
        self.keep_shown(task, pictures, rows)
        grid = [(texts[SHORT][i], [Cell(pictures[name][i]) for name in pictures]) for i in rows]
        self.samples.write_grid(f"enhancer_{task}", [LABELS[name] for name in pictures], grid)
        return found

    def _judges(self) -> dict[str, Any]:
        judges: dict[str, Any] = {"clip": self.exam.cosine}
        if self.reward.exists():
            from qi2.rewards.score import RewardModels

            models = RewardModels.load(self.reward.parent, self.exam.folders.standins / "vlm", [REWARD])

            def score(pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
                return list(models.score(REWARD, prompts, pictures).tolist())

            judges[REWARD] = score
        return judges

    def said(self, scores: Scores, i: int) -> dict[str, Any]:
        """The scores of one prompt's pictures."""
        return {"scores": {name: group[i] for name, group in scores.items()}}

    def figures(self, task: str, triplets: Sequence[Triplet], rewrites: Mapping[str, Sequence[Rewrite]], scores: Scores) -> dict[str, Figure]:
        """For every judge and text ``enhancer/t2i/JUDGE_TEXT/WORDING`` with the paired differences, and what the rules say of the rewrites."""
        found = {f"enhancer/{task}/degraded": self.boot.mean([t.short != t.fine for t in triplets])}
        for judge in scores[SHORT][0]:
            values = {name: np.array([row[judge] for row in rows]) for name, rows in scores.items()}
            prefix = f"enhancer/{task}/{judge}"
            found |= {f"{prefix}/{name}": self.boot.mean(column) for name, column in values.items()}
            pairs = {"cost": (FULL, SHORT), "gain": (REWRITTEN, SHORT), "rl_gain": (REWRITTEN, SFT), "full_change": (AGAIN, FULL)}
            found |= {f"{prefix}_{name}": self.boot.difference(values[a], values[b]) for name, (a, b) in pairs.items() if {a, b} <= values.keys()}
        return found | {f"enhancer/{task}/{name}": figure for name, figure in rules(rewrites[REWRITTEN], self.boot).items()}


def rules(rewrites: Sequence[Rewrite], boot: Bootstrap) -> dict[str, Figure]:
    """Shares of what the enhancer itself wrote, before anything falls back to the original: usable; texts kept to the letter, where there are any to be shown;
    the script kept. A share of nothing is left out."""
    written = [rewrite for rewrite in rewrites if rewrite.enhanced]
    shares = {
        "usable": [not rewrite.fallback for rewrite in rewrites],
        "texts_kept": [not Counter(quoted(r.original)) - Counter(quoted(r.enhanced)) for r in written if quoted(r.original)],
        "language_kept": [script(r.original) in (None, script(r.enhanced)) for r in written],
    }
    return {name: boot.mean(values) for name, values in shares.items() if values}
