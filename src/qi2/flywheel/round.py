"""One round of the flywheel: signals to decisions, decisions to changes of the next training, review, and afterwards what it changed (report section 2.4).

A round's folder ``HOME/rounds/NNN`` has state.json (phase, changes, reasons, provenance), decisions.jsonl (every failure with its evidence), before.json (the
evaluation that it starts from), report.json and report.md. Every phase can be repeated: what is there is not made again. Phases:

    review    candidates wait for people; the round goes on when it is called again
    ready     the changes are decided; the stages that they affect have to run
    nothing   no failure was acted on: nothing changes, and no stage runs
    done      trained, evaluated, reported
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qi2.core.errors import QI2Error
from qi2.core.publish import file_sha256, write_file
from qi2.data.shards import SIDECAR
from qi2.evaluation.bootstrap import Bootstrap
from qi2.flywheel import forgetting, report
from qi2.flywheel.attribution.cases import Case, distinct, from_signals
from qi2.flywheel.attribution.decide import Decision
from qi2.flywheel.attribution.diagnose import Diagnosis, diagnose
from qi2.flywheel.attribution.probes import Near, last_model
from qi2.flywheel.collect.mined import called_right, sentence, tried
from qi2.flywheel.retrieval.leaks import HeldOut
from qi2.flywheel.review.candidate import Candidate
from qi2.flywheel.review.queue import Mode, ReviewQueue
from qi2.flywheel.store import SignalStore
from qi2.flywheel.tracks import prompts, rl
from qi2.flywheel.tracks.pretraining import stale, write_accepted

if TYPE_CHECKING:
    from qi2.recipe import Recipe

REVIEW, READY, NOTHING, DONE = "review", "ready", "nothing", "done"
RESULTS = "results.json"


@dataclass
class State:
    """Where a round stands."""

    number: int
    phase: str = ""
    overrides: dict[str, Any] = field(default_factory=dict)  # of the configuration, dotted keys
    reasons: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)  # failures by track
    acted: dict[str, list[str]] = field(default_factory=dict)  # category -> tracks
    provenance: dict[str, Any] = field(default_factory=dict)
    candidates: int = 0
    pending: int = 0
    message: str = ""


@dataclass
class Parts:
    """What a round needs from beside it. ``augment``: candidates of the pre-training track; ``near``: similarities of the nearest training samples."""

    store: SignalStore
    queue: ReviewQueue
    heldout: Callable[[], HeldOut]  # what may not enter training
    augment: Callable[[Sequence[Decision], Mapping[str, Case], int], Sequence[Candidate]]
    near: Near | None = None


class Flywheel:
    """The rounds of one scale. ``home``: their folder; ``runs``: the results of the line; ``first``: the configuration before any round."""

    def __init__(self, cfg: "Recipe", first: "Recipe", home: Path, runs: Path, parts: Parts) -> None:
        self.cfg, self.first, self.home, self.runs, self.parts = cfg, first, Path(home), Path(runs), parts

    def folder(self, number: int) -> Path:
        """A round's folder."""
        return self.home / "rounds" / f"{number:03d}"

    @property
    def accepted(self) -> Path:
        """The folder of what review has accepted in all rounds."""
        return self.home / "accepted"

    def last(self) -> State | None:
        """The newest round; None before the first."""
        found = sorted((self.home / "rounds").glob("*/state.json"))
        return State(**json.loads(found[-1].read_text())) if found else None

    @property
    def next(self) -> int:
        """The number of the round that `open` begins; 0 where one is on its way."""
        state = self.last()
        return 1 if state is None else state.number + 1 if state.phase in (NOTHING, DONE) else 0

    def open(self, mined: Mapping[str, Any] | None = None) -> State:
        """Begin a round, or go on with one that waits for review; returns where it stands. Raises QI2Error without an evaluation.

        One that is ready stays as it is, but its data are what review accepts by now: somebody's may have been erased since.

        ``mined``: what mining found for it and cost (`Mined.to_json`), for its report.
        """
        self.forget()
        state = self._begin(self.next, mined) if self.next else self.last()
        assert state is not None
        if state.phase == REVIEW:
            state = self._review(state)
        elif state.phase == READY and stale(self.parts.queue, self.accepted):
            self._take(state)
            state = self._save(state)
        return state

    def _begin(self, number: int, mined: Mapping[str, Any] | None) -> State:
        results = self.runs / "evaluate" / RESULTS
        if not results.exists():
            raise QI2Error(f"{results} does not exist; the flywheel starts from a trained and evaluated line, so run `make run` first")
        current = [s for s in self.parts.store.all() if s.source in self.cfg.flywheel.sources and self._current(s)]
        signals = [signal for signal in current if not called_right(signal)]
        asked = Counter(prompts_by_kind(json.loads(results.read_text()))) + tried(current)
        store, most = self.parts.store, self.cfg.flywheel.probes.most
        cases = from_signals(signals, store.picture, most)
        found = diagnose(self.cfg, self.runs, cases, asked, self.parts.near, distinct(signals))
        folder = self.folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        found.write(folder / "decisions.jsonl")
        shutil.copyfile(results, folder / "before.json")
        state = State(number, counts=found.counts(), reasons=[*([sentence(mined)] if mined else []), *found.reasons()])
        state.provenance = {"signals": store.digest(), "signals_version": store.version, "model": found.model, "failures": len(cases)}
        state.provenance |= {"mined": dict(mined)} if mined else {}
        return self._act(state, found)

    def _current(self, signal: Any) -> bool:
        """Whether a signal is of the model that is tested, by its name and, where it says which, its weights; what people sent in always is."""
        model = self.cfg.flywheel.probes.model or last_model(self.runs)
        if signal.source == "feedback":
            return True
        manifest, weights = self.runs / model / "manifest.json", signal.provenance.get("weights", "")
        return bool(signal.model == model) and (not weights or json.loads(manifest.read_text())["files"].get("model.safetensors") == weights)

    def _trainable(self) -> set[str]:
        """Alive, and still allowed: somebody may have taken consent back."""
        return {signal.id for signal in self.parts.store.all() if signal.trainable}

    def forget(self) -> None:
        """Take signals that were deleted since out of the records of all rounds."""
        forgetting.forget(self.home, self.parts.store.all())

    def _act(self, state: State, found: Diagnosis) -> State:
        """Turn decisions into changes and candidates."""
        kinds = {case.id: f"{case.task}/{case.kind}" for case in found.cases}
        change = rl.adjust(found.decisions, found.by_id, self.cfg.rlhf, self.first.rlhf, self.cfg.flywheel.rl)
        learnt = prompts.learn(found.decisions, found.by_id, found.known, self.cfg.flywheel.prompts, self.parts.heldout)
        state.overrides = {**change.overrides, **prompts.write(learnt, self.home / "prompts", self.parts.heldout, self._trainable())}
        state.reasons += [*change.reasons, *learnt.reasons]
        state.acted = {name: list(tracks) for name, tracks in report.targets(found.decisions, kinds).items()}
        missing = [decision for decision in found.decisions if decision.track == "pretraining"]
        made = self.parts.augment(missing, found.by_id, self.cfg.flywheel.candidates) if missing else []
        alive = {signal.id for signal in self.parts.store.all()}  # somebody may have asked for deletion meanwhile
        candidates = [candidate for candidate in made if alive.issuperset(candidate.signals)]
        state.candidates = len(candidates)
        if candidates:
            review = self.cfg.flywheel.review
            mode = Mode(review.mode, "flywheel.review", review.share, review.agreement, self.cfg.flywheel.probes.seed)
            self.parts.queue.put(candidates, f"{self.home.name}/{state.number:03d}", mode)
            state.phase = REVIEW
            return self._save(state)
        if stale(self.parts.queue, self.accepted):
            self._take(state)
        return self._ready(state)

    def _review(self, state: State) -> State:
        """Take what review has decided; wait while it has not decided enough."""
        state.pending = int(self.parts.queue.progress()["left"])
        if state.pending:
            state.message = f"{state.pending} of {state.candidates} candidates wait for review: qi2 flywheel review {self.home.name}; then call the round again"
            return self._save(state)
        self._take(state)
        return self._ready(state)

    def _take(self, state: State) -> None:
        """Write what was accepted so far and is not held out, and note it as a change where it is another version than before.

        Data that no training reads are written anew, but join it only in a round that has made candidates.
        """
        before, path = version(self.accepted), state.overrides.get("accepted.path", self.cfg.accepted.path)
        read = path == str(self.accepted)
        if not before and not self.parts.queue.accepted():
            return
        figures = write_accepted(self.parts.queue, self.accepted, self.parts.heldout())
        state.provenance["refused_as_held_out"] = int(figures["refused"])
        if not figures["rows"] and read:
            state.overrides["accepted.path"] = ""
            state.reasons.append("No accepted sample is left: supervised fine-tuning goes without.")
        if figures["rows"] and (read or state.candidates) and (version(self.accepted) != before or not read):
            state.overrides["accepted.path"] = str(self.accepted)
            state.provenance["data"] = version(self.accepted)
            often = f"{self.cfg.accepted.repeat} times for one curated row of their kind"
            state.reasons.append(f"{figures['rows']:.0f} accepted samples join supervised fine-tuning, {often}; {figures['refused']:.0f} refused as held out.")

    def _ready(self, state: State) -> State:
        state.phase = READY if state.overrides else NOTHING
        sent = ", ".join(f"{track} {n}" for track, n in state.counts.items())
        if state.phase == NOTHING:
            state.message = f"round {state.number} changes nothing: of {state.provenance.get('failures', 0)} failures ({sent}) none is acted on"
            self._finish(state, [])
        else:
            state.message = f"round {state.number}: {sent}; changes {', '.join(sorted(state.overrides))}"
        return self._save(state)

    def close(self) -> State:
        """After training and evaluation: compare with before and write the report. Raises QI2Error where the suites differ or there is nothing to close."""
        state = self.last()
        if state is None or state.phase != READY:
            raise QI2Error("no round waits to be closed; begin one with the flywheel flow")
        before, after = (json.loads(path.read_text()) for path in (self.folder(state.number) / "before.json", self.runs / "evaluate" / RESULTS))
        report.same_suite(before, after)
        model, boot = state.provenance["model"], Bootstrap(self.cfg.evaluate.seed, self.cfg.evaluate.resamples)
        sides = [report.rights(results, model) for results in (before, after)]
        categories = report.compare(sides[0], sides[1], state.acted, boot)
        state.provenance["suite"] = after["suite"]["hashes"]["t2i"]
        rest = report.untouched(sides[0], sides[1], state.acted, boot)
        state.provenance["untouched"] = rest.to_json() if rest else None
        state.phase = DONE
        self._finish(state, categories)
        return self._save(state)

    def _finish(self, state: State, categories: list[report.Category]) -> None:
        made = report.RoundReport(
            state.number, categories, {**state.provenance, "reasons": state.reasons, "counts": state.counts, "overrides": state.overrides}
        )
        state.message = report.verdict(made) if categories else state.message
        made.facts["verdict"] = state.message
        folder = self.folder(state.number)
        write_file(folder / "report.json", json.dumps(made.to_json(), indent=1, default=str).encode())
        write_file(folder / "report.md", report.markdown(made).encode())

    def _save(self, state: State) -> State:
        write_file(self.folder(state.number) / "state.json", json.dumps(asdict(state), indent=1, default=str).encode())
        return state


def version(folder: Path) -> str:
    """SHA-256 of the table of accepted samples: which data a round was trained with; empty without any."""
    return file_sha256(folder / SIDECAR) if (folder / SIDECAR).exists() else ""


def prompts_by_kind(results: Mapping[str, Any]) -> dict[tuple[str, str], int]:
    """How many prompts of every (task, kind) an evaluation tried."""
    found: dict[tuple[str, str], int] = {}
    for suite, task, prefix in (("t2i", "t2i", ""), ("edit", "ti2i", "edit/")):
        for item in results.get(suite, {}).get("items", []):
            key = (task, f"{prefix}{item['kind']}")
            found[key] = found.get(key, 0) + 1
    return found
