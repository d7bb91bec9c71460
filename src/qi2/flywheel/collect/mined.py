"""Mining in a whole run: new prompts of its training distribution, drawn with the model whose failures a round tests and judged by the run's rewards."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.rng import key
from qi2.data.shards import SIDECAR
from qi2.flywheel.attribution.cases import in_turn
from qi2.flywheel.attribution.probes import last_model
from qi2.flywheel.collect.mining import CHECKED, DISAGREE, LIKED, LOW, WORDS, Reader, mine, task_of
from qi2.flywheel.collect.painter import ModelPainter
from qi2.flywheel.retrieval.leaks import HeldOut
from qi2.flywheel.signals import Signal
from qi2.flywheel.store import SignalStore
from qi2.rewards.config import DIMENSIONS
from qi2.rewards.score import RewardModels
from qi2.rlhf.prompts import Prompt
from qi2.rlhf.scoring import CHECKER, Scorer, checker
from qi2.rlhf.train import RLHFInputs, prompt_pool

if TYPE_CHECKING:
    from qi2.recipe import Recipe

TESTS = {CHECKED: "the exact checker", LOW: "low reward", DISAGREE: "rewards that disagree", LIKED: "a reward that likes a wrong picture", WORDS: "words"}


@dataclass(frozen=True)
class Mined:
    """The bad cases, and what they cost: numbers of prompts, of pictures, of prompts left out as held out, and seconds."""

    signals: list[Signal]
    model: str
    prompts: int
    pictures: int
    left_out: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """What a round keeps: ``tests`` has by name how many pictures it found and, where the truth is known, how many of them are wrong."""
        tests = {name: [len(found), known, wrong] for name, (found, known, wrong) in by_test(self.signals).items()}
        facts = {name: getattr(self, name) for name in ("model", "prompts", "pictures", "left_out")}
        return facts | {"seconds": round(self.seconds, 1), "found": len(self.signals), "tests": tests}


def mine_run(cfg: "Recipe", runs: Path, store: SignalStore, number: int, model: str = "") -> Mined:
    """Spend the budget ``flywheel.mining`` on stage ``model`` (the one that a round tests by default); ``number``: of the round, each has other prompts.

    No prompt is one that is held out, or that a person gave for diagnosis only. Raises QI2Error where the budget is 0 or there is no model.
    """
    config, runs, started = cfg.flywheel.mining, Path(runs), time.monotonic()
    if config.prompts < 1 or config.pictures < 1:
        raise QI2Error("flywheel.mining has no budget: set prompts, and pictures of each, above 0")
    name, seed = model or cfg.flywheel.probes.model or last_model(runs), key(config.seed, "flywheel/mining", number)
    asked = training_prompts(cfg, runs, seed)
    prompts = allowed(asked, runs, store)
    painter = ModelPainter.load(cfg, runs, name)
    found = mine(prompts, painter, scorers(cfg, runs), store, config, seed, _reader(config.ocr), {"round": number})
    return Mined(found, name, len(prompts), len(prompts) * config.pictures, len(asked) - len(prompts), time.monotonic() - started)


def training_prompts(cfg: "Recipe", runs: Path, seed: int) -> list[Prompt]:
    """At most ``flywheel.mining.prompts`` from where reinforcement learning has its own (`rlhf.prompts.source`), as many of every kind."""
    config, mining = cfg.rlhf.prompts, cfg.flywheel.mining
    even = [dict.fromkeys((kind for kind, weight in weights.items() if weight > 0), 1.0) for weights in (config.kinds, config.edit_kinds)]
    prompts = replace(config, pool=mining.prompts, kinds=even[0], edit_kinds=even[1], edit_share=mining.edit_share)
    inputs = RLHFInputs(runs / "encoded", runs / "sft", runs / "vae", runs / "standins" / "vlm", None, runs / "raw", runs / "curated")
    pool = prompt_pool(replace(cfg.rlhf, prompts=prompts, size=cfg.evaluate.size), inputs, seed % 2**31)
    return in_turn(pool.prompts, lambda prompt: prompt.kind, mining.prompts)


def allowed(prompts: Sequence[Prompt], runs: Path, store: SignalStore) -> list[Prompt]:
    """Those that are no held-out row's, no evaluation's, and none that somebody gave for diagnosis only."""
    if not (runs / "raw" / SIDECAR).exists():
        return list(prompts)
    held = HeldOut.open(runs, store.all(), pictures=False)
    return [prompt for prompt in prompts if not held.of_text(task_of(prompt), prompt.text, prompt.truth is not None)]


def scorers(cfg: "Recipe", runs: Path) -> dict[str, Scorer]:
    """The exact checker, and the rewards that the run has trained."""
    trained = [name for name in DIMENSIONS if (runs / "rewards" / name).exists()]
    models = RewardModels.load(runs / "rewards", runs / "standins" / "vlm", trained).scorers(cfg.rewards.portrait_words) if trained else {}
    return {CHECKER: checker, **models}


def _reader(ocr: bool) -> Reader | None:
    if not ocr:
        return None
    from qi2.evaluation.scorers.rapidocr import RapidReader

    reader = RapidReader()

    def read(picture: Image.Image) -> list[str]:
        return reader.lines(picture)

    return read


def wrong(signal: Signal) -> bool | None:
    """Whether the exact checker finds a mined picture wrong; None where no truth is known."""
    return CHECKED in signal.verdict.get("tests", ()) if signal.truth else None


def called_right(signal: Signal) -> bool:
    """Whether a mined picture is right by attribution's own standard (of an edit: it is done), so that a round has nothing to test.

    Then a reward complains of what the model did well, which is the reward's error; or an edit has changed more than it should.
    """
    attributes = signal.verdict.get("attributes", {})
    return signal.source == "mining" and bool(attributes) and all(attributes.values())


def by_test(signals: Iterable[Signal]) -> dict[str, tuple[list[Signal], int, int]]:
    """Of every test that found any: what it found, of how many of them the truth is known, and how many of those are wrong."""
    found: dict[str, list[Signal]] = {}
    for signal in signals:
        for test in signal.verdict.get("tests", ()):
            found.setdefault(test, []).append(signal)
    ordered = {test: found[test] for test in TESTS if test in found}
    return {test: (own, sum(wrong(one) is not None for one in own), sum(wrong(one) is True for one in own)) for test, own in ordered.items()}


def tried(signals: Iterable[Signal]) -> Counter[tuple[str, str]]:
    """How many pictures of every (task, kind) were drawn by the minings that these signals come from, each mining once.

    One that found nothing has left no signal, and does not count.
    """
    minings = {json.dumps([s.provenance["seed"], s.provenance["tried"]], sort_keys=True): s.provenance["tried"] for s in signals if "tried" in s.provenance}
    total: Counter[tuple[str, str]] = Counter()
    for counts in minings.values():
        for name, count in counts.items():
            task, _, kind = name.partition("/")
            total[task, kind] += count
    return total


def sentence(facts: Mapping[str, Any]) -> str:
    """What a round says of its mining (``facts``: of `Mined.to_json`, with ``new``)."""
    found = "; ".join(
        f"{TESTS[name]} {count}" + (f" ({bad} of {known} wrong)" if known and name != CHECKED else "") for name, (count, known, bad) in facts["tests"].items()
    )
    asked = f"Mining drew {facts['pictures']} pictures of {facts['prompts']} training prompts with {facts['model']} in {facts['seconds']:.0f} s"
    left = f", {facts['left_out']} prompts left out as held out" if facts["left_out"] else ""
    return f"{asked}{left}: {facts['found']} bad cases, {facts['new']} of them new{f' ({found})' if found else ''}."
