"""Captions a folder of shards: batches by scheme, committed one by one, published as one table (report 2.2)."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.progress import Progress
from qi2.core.publish import file_sha256, publish
from qi2.core.rng import key, numpy_rng
from qi2.data.captions.answers import INVALID, OK, STATUSES, UNREADABLE, Checked
from qi2.data.captions.captioner import Answer, Captioner, Request
from qi2.data.captions.config import CaptionConfig
from qi2.data.captions.evaluate import evaluate
from qi2.data.captions.prompts import fill, load_templates
from qi2.data.captions.rows import choose_rows, facts_by_id, read_scene, scene_known
from qi2.data.captions.schemes import SCHEMES, Task, tasks_of
from qi2.data.captions.work import Record, Work
from qi2.data.shards import SIDECAR, Sidecar, read_image
from qi2.data.world.scene import Scene

if TYPE_CHECKING:
    import pandas as pd

TABLE = "captions.parquet"
MOST_ASPECT = 32  # longer strips than 32 to 1 are no pictures that a model can be shown


@dataclass(frozen=True)
class Batch:
    """Rows of the sidecar (by position) that get the same kind of caption."""

    task: Task
    rows: tuple[int, ...]


def caption(
    raw: Path, captioner: Captioner, config: CaptionConfig, out: Path, facts: Mapping[str, str] | None = None, limit: int = 0, measure: bool = False
) -> dict[str, float]:
    """Publish ``captions.parquet`` and ``metrics.json`` to ``out`` and return the counts; with ``measure`` also ``evaluation.json``.

    The table has id, scheme, variant, language, length, caption, attempts, status (ok, refused, invalid, unreadable) and reason. Per
    scheme ``in`` is the sum of the four statuses. ``facts`` (by id) replace what the sidecar knows of a row; rows without facts get
    no knowledge caption, rows that opted out none at all. ``limit`` above 0 takes only the first rows. A run that was killed goes on
    after its last finished batch.
    """
    rows = choose_rows(Sidecar.load(raw).table, not captioner.reads_pictures, limit)
    tasks = tasks_of(config)
    templates = load_templates([task for group in tasks.values() for task in group], config.templates)
    run = Run(raw, rows, captioner, config, templates, facts_by_id(rows, facts))
    if not (batches := run.plan(tasks)):
        raise QI2Error(f"none of the {len(rows)} rows has facts, which {', '.join(tasks)} needs; give a file of facts, or choose another scheme")
    work = Work(out.with_name(f".{out.name}.work"), run.key())
    records: list[Record] = []
    with Progress("caption", sum(len(batch.rows) for batch in batches), "captions") as progress:
        for index, batch in enumerate(batches):
            done = work.read(index)
            if done is None:
                done = run.do(batch)
                work.write(index, done)
            records += done
            progress.update(len(done))
    counts = _counts(batches, records)
    _publish(out, records, counts, run.facts, rows if measure else None, config.seed)
    work.remove()
    return counts


@dataclass(frozen=True)
class Run:
    """Rows to caption, by whom and how; ``templates`` by name, ``facts`` by id."""

    raw: Path
    rows: "pd.DataFrame"
    captioner: Captioner
    config: CaptionConfig
    templates: Mapping[str, str]
    facts: dict[str, str]

    def plan(self, tasks: Mapping[str, list[Task]]) -> list[Batch]:
        """Batches of one task each, pictures of like size together, which saves padding."""
        order = (self.rows["width"] * self.rows["height"]).sort_values(kind="stable").index
        ids, size = self.rows["id"].tolist(), self.config.batch_size
        batches = []
        for scheme, group in tasks.items():
            usable = [row for row in order if self.facts[ids[row]] or not SCHEMES[scheme].needs_facts]
            turn = {row: self._draw(ids[row], scheme, len(group)) for row in usable} if self.config.one_each else {}
            for number, task in enumerate(group):
                mine = [row for row in usable if not turn or turn[row] == number]
                batches += [Batch(task, tuple(mine[start : start + size])) for start in range(0, len(mine), size)]
        return batches

    def key(self) -> str:
        """A digest of all that the records and their order depend on."""
        settings = {name: value for name, value in asdict(self.config).items() if name not in ("path", "device", "templates")}
        parts = [self.captioner.identity, settings, dict(self.templates), self.facts, file_sha256(self.raw / SIDECAR)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]

    def do(self, batch: Batch) -> list[Record]:
        """The records of a batch."""
        requests, records = [], []
        for row in self.rows.iloc[list(batch.rows)].to_dict("records"):
            try:
                image = _shown(self.raw, row) if self.captioner.reads_pictures else None
            except QI2Error as error:
                records.append(_record(row["id"], batch.task, Checked(UNREADABLE, reason=str(error)), 0))
                continue
            requests.append(self._request(row, batch.task, image))
        for request, answer in zip(requests, self.captioner.answer(requests) if requests else [], strict=True):
            records.append(_record(request.id, batch.task, *settle(self.captioner, self.config, request, answer)))
        return records

    def _request(self, row: Mapping[Any, Any], task: Task, image: Image.Image | None) -> Request:
        given = self.facts[row["id"]]
        prompt = fill(self.templates[task.template], task, given)
        return Request(row["id"], task, prompt, given, image, read_scene(row["scene"]))

    def _draw(self, name: str, scheme: str, n: int) -> int:
        return int(numpy_rng(self.config.seed, f"captions/{scheme}/{name}").integers(n))


def settle(captioner: Captioner, config: CaptionConfig, request: Request, answer: Answer) -> tuple[Checked, int]:
    """The verdict on the answer, or on the first of the sampled ones that passes; each is asked alone, so that it depends on nothing but its key."""
    checked, attempts = _check(answer, request.task), 1
    while checked.status != OK and attempts <= config.retries:
        seed = key(config.seed, f"captions/{request.task.name}/{request.id}", attempts)
        checked, attempts = _check(captioner.answer([request], seed)[0], request.task), attempts + 1
    return checked, attempts


def _shown(raw: Path, row: Mapping[Any, Any]) -> Image.Image:
    image = read_image(raw, row)
    if max(image.size) > MOST_ASPECT * min(image.size):
        raise QI2Error(f"image {row['id']} has {image.width} x {image.height} pixels; strips above {MOST_ASPECT} to 1 cannot be shown to the model")
    return image


def _check(answer: Answer, task: Task) -> Checked:
    checked = SCHEMES[task.scheme].check(answer.text, task)
    if checked.status == OK and not answer.whole:
        return Checked(INVALID, reason="cut off at captions.max_tokens")
    return checked


def _record(name: str, task: Task, checked: Checked, attempts: int) -> Record:
    return {"id": name, **asdict(task), "caption": checked.caption, "attempts": attempts, "status": checked.status, "reason": checked.reason}


def _counts(batches: list[Batch], records: list[Record]) -> dict[str, float]:
    counts: Counter[str] = Counter()
    for batch in batches:
        counts.update(dict.fromkeys((f"captions/{batch.task.scheme}/{status}" for status in (*STATUSES, "retried")), 0))
        counts[f"captions/{batch.task.scheme}/in"] += len(batch.rows)
    for record in records:
        counts[f"captions/{record['scheme']}/{record['status']}"] += 1
        counts[f"captions/{record['scheme']}/retried"] += record["attempts"] > 1
    return {name: float(value) for name, value in sorted(counts.items())}


def _publish(out: Path, records: list[Record], counts: dict[str, float], facts: dict[str, str], measured: "pd.DataFrame | None", seed: int) -> None:
    import pandas as pd

    table = pd.DataFrame.from_records(records)
    with publish(out) as folder:
        table.to_parquet(folder / TABLE, index=False)
        (folder / "metrics.json").write_text(json.dumps(counts, indent=1))
        if measured is not None:
            known = measured[scene_known(measured)]
            scenes = {name: Scene.from_json(text) for name, text in zip(known["id"], known["scene"], strict=True)}
            figures = evaluate(table, scenes, facts, seed)
            (folder / "evaluation.json").write_text(json.dumps({name: asdict(figure) for name, figure in figures.items()}, indent=1))
