"""Suites as a part of the line's evaluation: its final models on the suites that the configuration names.

A suite's prompts, verdicts and worst pictures are kept as those of the exam are, under ``suite/NAME``: the promotion policy, the model card and the report
read them alike. A row's verdict is its ``score``, by the suite's formula for it alone, and ``all``: whether that is the most there is.
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from qi2.evaluation.aggregate.base import Table
from qi2.evaluation.aggregate.registry import AGGREGATORS
from qi2.evaluation.aggregate.strings import characters
from qi2.evaluation.aggregate.text import target
from qi2.evaluation.bootstrap import Figure
from qi2.evaluation.config import EvaluateConfig
from qi2.evaluation.drawing import Painter
from qi2.evaluation.samples import Samples
from qi2.evaluation.scorers.base import Scorer
from qi2.evaluation.scorers.registry import open_scorer
from qi2.evaluation.store import Store
from qi2.evaluation.suites.registry import find_suite, suite_files
from qi2.evaluation.suites.report import figure_names
from qi2.evaluation.suites.row import Row
from qi2.evaluation.suites.run import Result, evaluate_suite
from qi2.evaluation.suites.suite import Suite

FINAL = ("sft", "rlhf", "distill")
READER = "ocr"  # the protocol of suites of text
WORLD, ALL = "world", "all"  # names of evaluate.suites that stand for several


def chosen(config: EvaluateConfig, own_images: bool = False) -> list[Suite]:
    """The suites that ``evaluate.suites`` names. ``world``: those that the world's checkers judge, which say nothing of a user's own images;
    ``all``: also every other for which there is a scorer."""
    found: dict[str, Suite] = {}
    for name in config.suites:
        if name not in (WORLD, ALL):
            suites = [find_suite(name)]
        else:
            suites = [suite for suite in map(find_suite, suite_files()) if _meant(suite, name, config, own_images)]
        found |= {suite.name: suite.part(config.suite_prompts) for suite in suites}
    return list(found.values())


def _meant(suite: Suite, name: str, config: EvaluateConfig, own_images: bool) -> bool:
    if suite.config.local == WORLD:
        return not own_images
    return name == ALL and bool(suite.config.local or suite.config.scorer in config.scorers)


class SuiteExam:
    """All chosen suites, model by model."""

    def __init__(self, config: EvaluateConfig, suites: Sequence[Suite], store: Store, samples: Samples) -> None:
        self.config, self.suites, self.store, self.samples = config, suites, store, samples
        self.scorers: list[Scorer] = [open_scorer(suite, config.scorers.get(suite.config.scorer, ""), config.device) for suite in suites]
        self.results: list[Result] = []

    def sit(self, painter: Painter) -> None:
        """Draw and score every suite with one model."""
        for suite, scorer in zip(self.suites, self.scorers, strict=True):
            self.results.append(evaluate_suite(painter, suite, scorer, self.store, self.config.seed, self.config.resamples, exact=True))

    def show(self) -> None:
        """Keep what any model drew worst, by all models, with what an edit started from."""
        for suite in self.suites:
            results = [result for result in self.results if result.suite.name == suite.name]
            for index in sorted({index for result in results for index in worst(result, self.config.shown)}):
                name, pictures = f"suite/{suite.name}-{index}", [self.store.read(result.items[index]["pictures"][0]) for result in results]
                for result, picture in zip(results, pictures, strict=True):
                    self.samples.save(picture, f"{result.model}/{name}")
                for j, reference in enumerate(suite.rows[index].references):
                    self.samples.save(reference.open(pictures[0].width), f"source/{name}-{j}")

    def figures(self) -> dict[str, Figure]:
        """``suite/SUITE/PROTOCOL/SCORER/FIGURE/MODEL``."""
        return {name: figure for result in self.results for name, figure in figure_names(result).items()}

    def kept(self) -> dict[str, Any]:
        """{``suite/NAME``: what it is, its items, and every model's verdicts}."""
        kept: dict[str, Any] = {}
        for result in self.results:
            config = result.suite.config
            facts: dict[str, Any] = {"about": config.about, "task": config.task, "images": config.images, "label": result.label, "scorer": result.identity}
            facts["scale"] = AGGREGATORS[config.aggregate].scale
            items = [{"id": row.id, "kind": row.category, "prompt": row.prompt} | _text_facts(result.suite, row) for row in result.suite.rows]
            entry = kept.setdefault(f"suite/{result.suite.name}", {"facts": facts, "items": items, "results": {}})
            entry["results"][result.model] = [_verdict(result, one) for one in result.items]
        return kept

    def hashes(self) -> dict[str, str]:
        """{``suite/NAME``: version}."""
        return {f"suite/{suite.name}": suite.hash for suite in self.suites}


def worst(result: Result, most: int) -> list[int]:
    """Places of the items with the least scores, one of every category before a second of any; items without an answer are none."""
    turns: dict[str, int] = {}
    scores = {i: score for i, item in enumerate(result.items) if (score := _score(result, item)) is not None}
    ranked = []
    for index in sorted(scores, key=lambda i: (scores[i], i)):
        category = result.items[index]["category"]
        turns[category] = turns.get(category, -1) + 1
        ranked.append((turns[category], index))
    return [index for _, index in sorted(ranked)][:most]


def _text_facts(suite: Suite, row: Row) -> dict[str, Any]:
    """Script and number of letters of the asked-for text, where a suite reads text."""
    if suite.config.scorer != READER:
        return {}
    letters = characters(target(row))
    scripts = Counter(unicodedata.name(letter, "OTHER").split()[0].split("-")[0].capitalize() for letter in letters)
    script = scripts.most_common(1)[0][0]
    return {"script": "Han" if script == "Cjk" else script, "letters": len(letters)}


def _verdict(result: Result, item: Mapping[str, Any]) -> dict[str, Any]:
    """Nothing where nobody could answer."""
    score = _score(result, item)
    return {} if score is None else {"score": score, "all": score >= AGGREGATORS[result.suite.config.aggregate].scale[1]}


def _score(result: Result, item: Mapping[str, Any]) -> float | None:
    if not item["numbers"]:
        return None
    config = result.suite.config
    return float(AGGREGATORS[config.aggregate].combine(Table.of([item["category"]], [item["numbers"]]), config.options)["score"])
