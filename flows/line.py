"""What all journeys share: resolve the configuration, see what is out of date, run those stages in the order of dvc.yaml."""

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Literal

from prefect import get_run_logger, runtime
from prefect.concurrency.sync import concurrency
from prefect.futures import PrefectFuture, as_completed, wait

from flows import slots, steps
from flows.dag import Dag
from flows.stage import StageRecord, drop_checkpoints, remember, run_stage
from qi2.core.errors import QI2Error
from tasks import config, settings, tracking
from tasks.jsonl import append

Scale = Literal["smoke", "tiny", "small", "report"]
Overrides = dict[str, Any] | None
Outputs = dict[str, dict[str, str]]


class Line:
    """One journey through the stages of a scale; use as a context manager, which holds the scale for this run alone."""

    def __init__(self, journey: str, scale: str, overrides: Overrides, from_stage: str | None, target: str | None = None) -> None:
        self.journey, self.scale, self.overrides, self.from_stage, self.target = journey, scale, overrides, from_stage, target
        self.dag = Dag(scale)
        self.runs = settings.ROOT / settings.runs_folder(scale)
        self.flow_run_id = str(runtime.flow_run.id)
        self.progress = settings.STATE / "progress" / f"{self.flow_run_id}.jsonl"
        self.records: list[StageRecord] = []
        self.started = _started()

    def __enter__(self) -> "Line":
        self._step(f"waiting for another run of scale {self.scale}")
        with ExitStack() as held:
            slot = slots.of_scale(self.scale)
            held.enter_context(concurrency(slot, lease_duration=slots.LEASE_S, raise_on_lease_renewal_failure=False))
            self._step("looking for what is out of date")
            config.write_overrides(self.scale, self.overrides)
            config.write(self.scale)
            self.at_once = slots.STAGES if config.read(self.scale).side_by_side else 1
            self.forced = self._forced()
            self.todo = self.dag.changed(self.target) | self.forced
            for stage in self._without_use():
                drop_checkpoints(stage, self.scale)
            self._held = held.pop_all()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        with self._held:
            if error is not None:
                append(self.progress, event="failed", text=str(error))
            tracking.close_parent("FAILED" if kind else "FINISHED", self.journey, self.scale, self.flow_run_id)

    def _step(self, text: str) -> None:
        append(self.progress, event="step", text=text)

    def _forced(self) -> set[str]:
        order = self.dag.order(self.target)
        if self.from_stage is None:
            return set()
        if self.from_stage not in order:
            raise QI2Error(f"from_stage={self.from_stage!r} is not one of {', '.join(order)}")
        return self.dag.downstream({self.from_stage}) & set(order)

    def _without_use(self) -> set[str]:
        """Stages whose checkpoints serve no more: DVC has their result, or, at the first try of this run, they are forced to begin anew."""
        anew = self.forced if runtime.flow_run.run_count <= 1 else set()
        return (set(self.dag.order(self.target)) - self.todo) | anew

    @property
    def unchanged(self) -> bool:
        """Whether nothing has to be done: every stage up to date and, for the whole line, its last steps done for these results."""
        return not self.todo and (self.target is not None or self.finished().get("key") == self.key())

    def train(self) -> None:
        """Bring every stage up to date, each after its inputs; after curation the data must pass their checks before anything is trained on them.

        A stage that fails lets the one beside it end, so that its work and its record are kept; nothing else is started.
        """
        running: dict[PrefectFuture[StageRecord], str] = {}
        try:
            self._train(running)
        except Exception:
            wait(list(running))
            for future, stage in running.items():
                if future.state.is_completed():
                    self._keep(stage, future.result())
            raise

    def _train(self, running: dict[PrefectFuture[StageRecord], str]) -> None:
        left, done = self.dag.order(self.target), set[str]()
        while left or running:
            stage = next((name for name in left if self.dag.upstream[name] <= done), None)
            if stage is None or len(running) == self.at_once:
                future = next(as_completed(list(running)))
                done |= self._finish(running.pop(future), future)
                continue
            left.remove(stage)
            if stage in self.todo:
                running[self._start(stage)] = stage
            else:
                self._say(stage, "reused")
                done |= self._passed(stage)

    def _start(self, stage: str) -> PrefectFuture[StageRecord]:
        self._say(stage, "started")
        run = run_stage.with_options(name=stage, task_run_name=f"{stage}@{self.scale}", tags=[stage])
        taken = slots.taken(self.at_once > 1)
        return run.submit(stage, self.scale, self.journey, self.flow_run_id, str(self.progress), taken, force=stage in self.forced)

    def _finish(self, stage: str, future: PrefectFuture[StageRecord]) -> set[str]:
        self._keep(stage, future.result())
        return self._passed(stage)

    def _keep(self, stage: str, record: StageRecord) -> None:
        self.records.append(record)
        if not record.reused:
            remember(record)
        self._say(stage, "finished")

    def _passed(self, stage: str) -> set[str]:
        if stage == "curate":
            steps.gate.with_options(name="gate")(self.scale, self.dag.recorded(stage))
        return {stage}

    def _say(self, stage: str, state: str) -> None:
        order = self.dag.order(self.target)
        append(self.progress, event="stage", name=stage, state=state, index=order.index(stage) + 1, of=len(order))

    def key(self) -> str:
        """A hash of all results and of what the last steps read: they are repeated only when it changes."""
        files = [settings.ROOT / "mlflow" / "promotion.yaml", *sorted((settings.ROOT / "src" / "qi2" / "evaluation").rglob("*.py"))]
        facts = [self.dag.recorded(stage) for stage in self.dag.stages]
        text = json.dumps(facts, sort_keys=True) + "".join(path.read_text() for path in files if path.exists())
        return hashlib.sha256(text.encode()).hexdigest()

    def finished(self) -> dict[str, Any]:
        """What the last whole run left: its key, MLflow run and Prefect run."""
        path = self.runs / "finished.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def finish(self) -> Mapping[str, Any]:
        """Offer the model for promotion, sum up the time, build the report, and show the tables."""
        parent = tracking.parent_run(self.journey, self.scale, self.flow_run_id)
        decision = steps.promote.with_options(name="promote")(self.scale, self.flow_run_id, parent)
        steps.summarise_time(self.scale, self.dag, self.records, self.started)
        experiment = tracking.experiment_id(tracking.client(), f"qi2-{self.scale}")
        steps.report.with_options(name="report")(self.scale, parent, experiment)
        steps.log_to_parent(parent, self.scale)
        values = {"key": self.key(), "mlflow_run": parent, "experiment": experiment, "flow_run_id": self.flow_run_id, "promotion": decision}
        (self.runs / "finished.json").write_text(json.dumps({**values, "finished": time.time()}, indent=1))
        steps.show(self.scale, values, self.records)
        append(self.progress, event="finished")
        return values

    def say_unchanged(self) -> None:
        """Tell that there was nothing to do, with links to the former results."""
        get_run_logger().info("unchanged: every stage of %s is up to date", self.scale)
        append(self.progress, event="unchanged")
        if self.target is None:
            steps.show(self.scale, self.finished(), [])


def _started() -> float:
    scheduled = runtime.flow_run.scheduled_start_time
    return scheduled.timestamp() if scheduled is not None else time.time()


def run_journey(journey: str, target: str, scale: str, overrides: Overrides, from_stage: str | None) -> Outputs:
    """Bring ``target`` and what it needs up to date; returns {stage: {path: md5}} of what has run."""
    with Line(journey, scale, overrides, from_stage, target) as line:
        if line.unchanged:
            line.say_unchanged()
        else:
            line.train()
        return {record.stage: dict(record.outs) for record in line.records}
