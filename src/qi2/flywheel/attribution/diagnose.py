"""Everything of attribution in one call: cases in, evidence and decisions out, with the models of a run."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.rng import numpy_rng
from qi2.data.shards import SIDECAR, Sidecar
from qi2.flywheel.attribution import probes
from qi2.flywheel.attribution.cases import T2I, Case, Evidence, counted
from qi2.flywheel.attribution.decide import TRACKS, Decision, Tested, decide
from qi2.flywheel.attribution.judges import Judged, Threshold, calibrate
from qi2.flywheel.attribution.rewording import LanguageModel, WorldWordings
from qi2.flywheel.retrieval.corpus import accepted_shards

if TYPE_CHECKING:
    from qi2.recipe import Recipe

ORDINARY = 200  # training prompts whose neighbours say what is usual


@dataclass
class Diagnosis:
    """What a round knows about its failures."""

    cases: list[Case]
    evidence: list[Evidence]
    decisions: list[Decision]
    model: str = ""
    known: Mapping[str, int] = field(default_factory=dict)
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)  # by task, of the reward that judged where the truth is not known

    @property
    def by_id(self) -> dict[str, Case]:
        """Cases by their signal."""
        return {case.id: case for case in self.cases}

    def counts(self) -> dict[str, int]:
        """Failures by track."""
        found = Counter(decision.track for decision in self.decisions)
        return {track: found.get(track, 0) for track in TRACKS}

    def reasons(self) -> dict[str, int]:
        """Every reason with the number of failures that it is given for, in their order."""
        return dict(Counter(decision.reason for decision in self.decisions))

    def write(self, path: Path) -> None:
        """One decision per line, with what it rests on."""
        from qi2.core.publish import write_file

        lines = [json.dumps({**asdict(decision), "prompt": self.by_id[decision.signal].prompt}, default=str) for decision in self.decisions]
        write_file(path, "".join(f"{line}\n" for line in lines).encode())


def diagnose(
    cfg: "Recipe", runs: Path, cases: Sequence[Case], tested: Tested | None = None, near: probes.Near | None = None, failing: Sequence[Any] | None = None
) -> Diagnosis:
    """Run every test with the run's models and decide. ``near``: similarities of the nearest training samples, where a vector index of them is there.

    ``failing``: all failing prompts, where ``cases`` are some of them only.
    """
    wanted, runs = cfg.flywheel, Path(runs)
    prompts = training_prompts(runs)
    painter, known = probes.Painter(cfg, runs), counted(prompts) if prompts else None
    if not cases:
        return Diagnosis([], [], [], painter.name, known or {})
    other = LanguageModel(wanted.probes.paraphraser, wanted.probes.paraphrases, wanted.probes.seed) if wanted.probes.paraphraser else None
    judge = judge_of(cfg, runs, cases)
    reword = WorldWordings(wanted.probes.paraphrases, wanted.probes.seed, other)
    evidence = probes.run(cfg, cases, painter, judge, reword, enhancer_of(runs))
    if near is not None:
        chosen = numpy_rng(wanted.probes.seed, "flywheel/ordinary").permutation(len(prompts))[:ORDINARY]
        probes.add_neighbours(evidence, near, [prompts[int(i)] for i in chosen], wanted.probes.neighbours)
    decisions = decide(evidence, wanted.decide, known, tested, failing)
    return Diagnosis(list(cases), evidence, decisions, painter.name, known or {}, judge.thresholds)


def training_prompts(runs: Path) -> list[str]:
    """Every caption and instruction of the rows that the run's image model trains on, accepted ones too; none where the run has no raw rows."""
    if not (runs / "raw" / SIDECAR).exists():
        return []
    import pandas as pd

    columns = ["id", "split", "task", "captions", "opt_out"]
    raw, *accepted = (pd.read_parquet(folder / SIDECAR, columns=columns) for folder in (runs / "raw", *accepted_shards(runs)))
    if (runs / "encoded" / "rows.parquet").exists():  # what curation rejected taught nothing
        raw = raw[raw["id"].isin(pd.read_parquet(runs / "encoded" / "rows.parquet", columns=["id"])["id"])]
    table = pd.concat([raw, *accepted])
    table = table[(table["split"] == "train") & (table["task"] != "reference") & ~table["opt_out"]]
    return [str(text) for group in table["captions"] for text in group]


def enhancer_of(runs: Path) -> probes.Reword | None:
    """The run's prompt enhancer as one other wording per case, none where it keeps the prompt; None where none was trained."""
    if not (runs / "enhancer" / "enhancer.json").exists():
        return None
    from qi2.enhancer.enhance import Enhancer
    from qi2.enhancer.request import Request

    enhancer = Enhancer.load(runs / "enhancer")

    def rewrite(cases: Sequence[Case]) -> list[list[str]]:
        found = enhancer.enhance([Request(case.prompt, case.task, list(case.references)) for case in cases])
        return [[] if one.fallback else [one.text] for one in found]

    return rewrite


def judge_of(cfg: "Recipe", runs: Path, cases: Sequence[Case]) -> Judged:
    """The exact checker, and for cases without a truth the run's alignment or instruction reward, each calibrated on training pairs of its own task."""
    unknown = {case.task for case in cases if case.truth is None}
    if not unknown or not (runs / "rewards").exists():
        return Judged()
    from qi2.rewards.score import RewardModels

    models = RewardModels.load(runs / "rewards", runs / "standins" / "vlm", ("alignment", "instruction"))

    def score(shown: Sequence[tuple[str, Sequence[Image.Image], Image.Image]]) -> list[float]:
        values = [0.0] * len(shown)
        for name, rows in (("alignment", [i for i, s in enumerate(shown) if not s[1]]), ("instruction", [i for i, s in enumerate(shown) if s[1]])):
            sources = [shown[i][1] for i in rows] if name == "instruction" else None
            scored = models.score(name, [shown[i][0] for i in rows], [shown[i][2] for i in rows], sources).tolist() if rows else []
            values = [dict(zip(rows, scored, strict=True)).get(i, value) for i, value in enumerate(values)]
        return values

    return Judged(score, {task: _threshold(cfg, runs, score, task) for task in sorted(unknown)})


def _threshold(cfg: "Recipe", runs: Path, score: Any, task: str) -> Threshold:
    """From training pairs of a task, each with its own prompt and with the next one's. Raises QI2Error where there are none."""
    side = Sidecar.load(runs / "raw")
    rows = side.table[
        (side.table["split"] == "train") & (side.table["task"] == task) & (side.table["captions"].map(len) > 0) & (side.table["source"] != "defect")
    ]
    if not len(rows):
        what = f"{side.folder} has no training pair of task {task}, on which the reward's threshold would be calibrated"
        raise QI2Error(f"{what}: train on some, or take the failures of this task whose truth is not known out (flywheel.sources)")
    chosen = rows.iloc[numpy_rng(cfg.flywheel.probes.seed, "flywheel/threshold").permutation(len(rows))[: cfg.flywheel.probes.judged]]
    prompts, pictures = [str(texts[0]) for texts in chosen["captions"]], [side.image(name) for name in chosen["id"]]
    references = [[side.image(name) for name in names] if task != T2I else [] for names in chosen["references"]]
    matching = score(list(zip(prompts, references, pictures, strict=True)))
    mismatching = score(list(zip([*prompts[1:], prompts[0]], references, pictures, strict=True)))
    return calibrate(matching, mismatching)
