"""What the prompt enhancer is worth: the same held-out prompts in full, as a hurried user writes them, and rewritten (report section 3.3, Fig. 9).

Everything is judged by what the short prompt asks for, so that a background it leaves open may be any. Every version is drawn by the same generator
from the same noise.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qi2.core.rng import key, numpy_rng
from qi2.data.world.render import render
from qi2.enhancer.enhance import Enhancer
from qi2.enhancer.request import Request, Rewrite
from qi2.enhancer.triplets import Annotation, Degrader, Triplet
from qi2.enhancer.truth import read_truth, shown
from qi2.evaluation.bootstrap import Bootstrap, Figure
from qi2.evaluation.drawing import draw, jobs_of
from qi2.evaluation.grids import Cell
from qi2.evaluation.painter import ModelPainter
from qi2.evaluation.samples import Samples
from qi2.evaluation.suites.world import SPLIT, Prompt, edit_items, scene_items
from qi2.evaluation.wordings import AGAIN, FULL, LABELS, RESULTS, REWRITTEN, SFT, SHORT, shown_rows

ENHANCER = "enhancer"  # its folder in a run
Texts = Mapping[str, Sequence[str]]
Verdicts = dict[str, list[dict[str, bool]]]


class EnhancerExam:
    """Degraded held-out prompts and edits, rewritten by the enhancers of a run: after RL, and before it where that is there."""

    split = SPLIT

    def __init__(self, cfg: Any, runs: Path, painter: ModelPainter, samples: Samples) -> None:
        self.config, self.size, self.painter, self.samples = cfg.evaluate, cfg.evaluate.size, painter, samples
        self.boot = Bootstrap(self.config.seed, self.config.resamples)
        before = runs / "enhancer_sft"
        folders = {REWRITTEN: runs / ENHANCER} | ({SFT: before} if before.exists() else {})
        self.enhancers = {name: Enhancer.load(folder, self.config.device) for name, folder in folders.items()}
        self.seeds: dict[str, list[int]] = {}
        self.triplets = self.asked(cfg)

    def asked(self, cfg: Any) -> dict[str, list[Triplet]]:
        """The degraded prompts by task; the noise of each is in ``seeds``."""
        n, seed = cfg.enhancer.evaluate_prompts, self.config.seed
        t2i = [item for kind in self.config.kinds for item in scene_items(seed, kind, n, "enhancer", self.split)]
        edits = [item for kind in self.config.edit_kinds for item in edit_items(seed, kind, n // 3, "enhancer", self.split)]
        return {
            "t2i": self.degraded(cfg, "t2i", [(item, item.scene.to_json()) for item in t2i]),
            "ti2i": self.degraded(cfg, "ti2i", [(item, item.edit.to_json()) for item in edits]),
        }

    def degraded(self, cfg: Any, task: str, items: Sequence[tuple[Prompt, str]]) -> list[Triplet]:
        """A triplet per (item, its truth's JSON), none of which keeps its prompt by chance."""
        config = cfg.enhancer.triplets
        degrade = Degrader(type(config)(**{**vars(config), "keep": 0.0}))
        self.seeds[task] = [item.noise_seed for item, _ in items]
        found = []
        for i, (item, truth) in enumerate(items):
            draw_numbers = numpy_rng(self.config.seed, f"evaluate/enhancer/degrade/{item.kind}", key(0, item.id))
            found.append(degrade(Annotation(f"{task}-{i}", task, item.kind, item.prompt, truth), draw_numbers))
        return found

    def run(self) -> dict[str, Figure]:
        """All figures; pictures, prompts and verdicts are kept beside those of the other suites."""
        figures, kept = dict[str, Figure](), dict[str, Any]()
        for task, triplets in self.triplets.items():
            if not triplets:
                continue
            texts, rewrites = self._texts(task, triplets)
            verdicts = self.judged(task, triplets, texts)
            figures |= self.figures(task, triplets, rewrites, verdicts)
            rows = [
                {"kind": t.kind, "strategies": t.strategies, "reasoning": rewrites[REWRITTEN][i].reasoning, "fallback": rewrites[REWRITTEN][i].fallback}
                | {"prompts": {name: group[i] for name, group in texts.items()}, **self.said(verdicts, i)}
                for i, t in enumerate(triplets)
            ]
            kept[task] = rows
        (self.samples.folder / RESULTS).write_text(json.dumps({"generator": self.painter.name, "shown": self.config.shown, "items": kept}, indent=1))
        return figures

    def _texts(self, task: str, triplets: Sequence[Triplet]) -> tuple[Texts, dict[str, list[Rewrite]]]:
        rewrites = {name: enhancer.enhance([Request(t.short, task) for t in triplets]) for name, enhancer in self.enhancers.items()}
        rewrites[AGAIN] = self.enhancers[REWRITTEN].enhance([Request(t.fine, task) for t in triplets])
        said = {FULL: [t.fine for t in triplets], SHORT: [t.short for t in triplets]}
        return said | {name: [rewrite.text for rewrite in group] for name, group in rewrites.items()}, rewrites

    def judged(self, task: str, triplets: Sequence[Triplet], texts: Texts) -> Any:
        """{wording: per prompt the verdict on its picture}; the pictures are kept."""
        truths = [read_truth(task, t.truth) for t in triplets]
        references = [[render(scene, self.size) for scene in truth.references] if task == "ti2i" else [] for truth in truths]  # type: ignore[union-attr]
        verdicts, pictures = Verdicts(), self.pictures(task, texts, references)
        for name, group in pictures.items():
            verdicts[name] = [
                shown(image, truth, t.dropped, sources[0] if sources else None)  # type: ignore[arg-type]
                for image, truth, t, sources in zip(group, truths, triplets, references, strict=True)
            ]
        self._grid(task, texts, pictures, verdicts)
        return verdicts

    def pictures(self, task: str, texts: Texts, references: list[list[Image.Image]]) -> dict[str, list[Image.Image]]:
        """One picture per wording and prompt, in the wordings' order."""
        found = {}
        for name in [name for name in LABELS if name in texts]:
            jobs = jobs_of(self.painter, texts[name], references, self.seeds[task])
            found[name] = draw(self.painter, jobs, self.painter.studio.store, exact=True).open(self.painter.studio.store)
        return found

    def said(self, verdicts: Any, i: int) -> dict[str, Any]:
        """What is kept of the verdicts on one prompt's pictures."""
        return {"right": {name: group[i]["all"] for name, group in verdicts.items()}}

    def figures(self, task: str, triplets: Sequence[Triplet], rewrites: Mapping[str, Sequence[Rewrite]], verdicts: Any) -> dict[str, Figure]:
        """Accuracies by wording, and what short prompts cost and rewriting brings back."""
        right = {name: np.array([row["all"] for row in rows], dtype=np.float64) for name, rows in verdicts.items()}
        figures = {f"enhancer/{task}/accuracy/{name}": self.boot.mean(values) for name, values in right.items()}
        figures[f"enhancer/{task}/cost"] = self.boot.difference(right[FULL], right[SHORT])
        figures[f"enhancer/{task}/gain"] = self.boot.difference(right[REWRITTEN], right[SHORT])
        figures[f"enhancer/{task}/full_change"] = self.boot.difference(right[AGAIN], right[FULL])
        figures[f"enhancer/{task}/usable"] = self.boot.mean([not rewrite.fallback for rewrite in rewrites[REWRITTEN]])
        if SFT in right:
            figures[f"enhancer/{task}/rl_gain"] = self.boot.difference(right[REWRITTEN], right[SFT])
        for name in (SFT, REWRITTEN):
            recovered = self.boot.ratio(right[name] - right[SHORT], right[FULL] - right[SHORT]) if name in right else None
            figures |= {f"enhancer/{task}/recovered/{name}": recovered} if recovered else {}
        for part, names in (("kind", [t.kind for t in triplets]), ("category", [t.category for t in triplets])):
            for one in dict.fromkeys(names):
                chosen = np.array([name == one for name in names])
                figures |= {f"enhancer/{task}/accuracy_by_{part}/{one}/{name}": self.boot.mean(values[chosen]) for name, values in right.items()}
        return figures

    def _grid(self, task: str, texts: Texts, pictures: Mapping[str, Sequence[Image.Image]], verdicts: Verdicts) -> None:
        """Short prompt and rewrite beside the pictures of both, spread over the kinds."""
        rows = shown_rows(len(texts[SHORT]), self.config.shown)
        self.keep_shown(task, pictures, rows)
        self.samples.write_grid(
            f"enhancer_{task}",
            [LABELS[name] for name in pictures],
            [(texts[SHORT][i], [Cell(pictures[name][i], verdicts[name][i]["all"]) for name in pictures]) for i in rows],
        )

    def keep_shown(self, task: str, pictures: Mapping[str, Sequence[Image.Image]], rows: Sequence[int]) -> None:
        """The pictures that the report shows."""
        for name in (SHORT, REWRITTEN):
            for k, i in enumerate(rows):
                self.samples.save(pictures[name][i], f"enhancer/{task}-{name}-{k}")
