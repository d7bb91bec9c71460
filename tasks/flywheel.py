"""``python -m tasks flywheel``: one step of a round of the data flywheel, beside the DAG. QI2_FLYWHEEL says which: ``open`` (by default) or ``close``.

Open: failures of the last evaluation, and of training prompts that are drawn for it, join the signals, all are attributed, and what the tracks change is
written to ``conf/flywheel/SCALE.yaml``, or the round waits for review. Close: the evaluation after training is compared with the one before. Signals lie in
``flywheel/signals``, where the commands of `qi2 flywheel` find them, a scale's rounds, review queue and what they made in ``flywheel/SCALE/``; `make clean`
leaves all of it alone.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qi2.arena.entrants import load
from qi2.arena.votes import Votes
from qi2.core.publish import write_file
from qi2.data.captions.captioner import load_captioner
from qi2.data.shards import SIDECAR
from qi2.evaluation.summary import revision
from qi2.flywheel.attribution.probes import Near
from qi2.flywheel.collect.evaluation import Evaluated, failures
from qi2.flywheel.collect.mined import mine_run
from qi2.flywheel.collect.training import training_failures
from qi2.flywheel.collect.votes import VoteSettings, arena_truths, lost_votes
from qi2.flywheel.retrieval.corpus import Corpus, accepted_shards
from qi2.flywheel.retrieval.leaks import HeldOut
from qi2.flywheel.review.candidate import Candidate
from qi2.flywheel.review.queue import queue_of
from qi2.flywheel.round import READY, Flywheel, Parts, State
from qi2.flywheel.signals import Signal
from qi2.flywheel.store import SignalStore
from qi2.flywheel.tracks import pretraining
from tasks import config, settings

if TYPE_CHECKING:
    from qi2.flywheel.attribution.cases import Case
    from qi2.flywheel.attribution.decide import Decision
    from qi2.recipe import Recipe

STEP = "QI2_FLYWHEEL"
OPEN, CLOSE = "open", "close"
HOME = Path("flywheel")


def home(scale: str) -> Path:
    """Rounds of a scale, what they accepted and taught, relative to the project root."""
    return HOME / scale


def result_file(scale: str) -> Path:
    """What the last step of a scale wrote: the round's state."""
    return settings.ROOT / home(scale) / "result.json"


def main(scale: str) -> None:
    """Do the step and write its result."""
    recipe = config.read(scale)
    wheel = Flywheel(recipe, config.before_rounds(scale), home(scale), settings.runs_folder(scale), parts(recipe, scale))
    state = wheel.close() if os.environ.get(STEP, OPEN) == CLOSE else _open(wheel, scale)
    state.provenance["git"] = revision(settings.ROOT)
    write_file(result_file(scale), json.dumps({**asdict(state), "folder": str(wheel.folder(state.number))}, indent=1, default=str).encode())
    print(state.message)


def _open(wheel: Flywheel, scale: str) -> State:
    mined = collect(wheel, scale) if wheel.next else {}
    state = wheel.open(mined)
    if state.phase == READY:
        config.add_round(scale, state.overrides)
    return state


def collect(wheel: Flywheel, scale: str) -> dict[str, Any]:
    """Let failures of the last evaluation, of training's own sheets and of the arena's votes join the signals, as ``flywheel.sources`` says, and mine.

    Returns what mining found and cost; nothing where ``flywheel.mining`` has no budget. What users say is in the store already.
    """
    recipe, store, runs = config.read(scale), wheel.parts.store, settings.runs_folder(scale)
    found: list[Signal] = []
    if "evaluation" in recipe.flywheel.sources:
        found += failures(runs, store)
    if "training" in recipe.flywheel.sources:
        found += [signal for phase in config.PHASES for signal in training_failures(recipe, runs, phase, store)]
    votes = Path("votes") / f"{scale}.sqlite"
    if "votes" in recipe.flywheel.sources and votes.exists():
        truths = {} if recipe.data.source else arena_truths(Evaluated.open(runs))
        found += lost_votes(load([str(runs / "evaluate")]), list(Votes(votes).rows()), store, VoteSettings(), truths)
    store.add(found)
    if "mining" not in recipe.flywheel.sources or not recipe.flywheel.mining.prompts:
        return {}
    mined = mine_run(recipe, runs, store, wheel.next)
    return mined.to_json() | {"new": store.add(mined.signals)}


def parts(recipe: "Recipe", scale: str) -> Parts:
    """Store, review queue, retrieval and the pre-training track of a scale. The corpus and what is held out are read where they are asked for."""
    runs = settings.runs_folder(scale)
    store, queue = SignalStore(HOME / "signals"), queue_of(HOME, scale)

    @cache
    def corpus() -> Corpus:
        return Corpus.open(runs, home(scale) / "corpus", pictures=False, extra=accepted_shards(runs))

    @cache
    def heldout() -> HeldOut:
        return HeldOut.open(runs, store.all(), store.picture)

    def augment(decisions: "Sequence[Decision]", cases: "Mapping[str, Case]", most: int) -> Sequence[Candidate]:
        curated = runs / "curated" if (runs / "curated" / "scores.parquet").exists() else None
        captions, unknown = recipe.flywheel.captions, any(not cases[decision.signal].truth for decision in decisions if decision.signal in cases)
        captioner = load_captioner(captions) if captions.path and unknown else None
        track = pretraining.Track(corpus(), queue, heldout(), curated, captioner, captions, recipe.evaluate.size, recipe.flywheel.probes.seed)
        return pretraining.candidates(decisions, cases, most, track)

    near: Near = lambda prompts, k: corpus().similarities(prompts, k)  # noqa: E731
    return Parts(store, queue, heldout, augment, near if (runs / "raw" / SIDECAR).exists() else None)
