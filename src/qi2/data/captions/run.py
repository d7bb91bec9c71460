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
from qi2.data.captions.schemes import SCHEMES, Task, tasks_of
from qi2.data.captions.work import Record, Work
from qi2.data.shards import SIDECAR, Sidecar, read_image
from qi2.data.world.scene import Scene

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
TABLE, EVALUATION = "captions.parquet", "evaluation.json"
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
    rows = _rows(Sidecar.load(raw).table, captioner, limit)
    known = _facts(rows, facts)
    tasks = tasks_of(config)
    templates = load_templates([task for group in tasks.values() for task in group], config.templates)
    batches = _plan(rows, tasks, config, known)
    work = Work(out.with_name(f".{out.name}.work"), _key(raw, captioner, config, templates, known, limit))
    records: list[Record] = []
    with Progress("caption", sum(len(batch.rows) for batch in batches), "captions") as progress:
        for index, batch in enumerate(batches):
            done = work.read(index)
            if done is None:
                done = _do(batch, rows, raw, captioner, config, templates, known)
                work.write(index, done)
            records += done
            progress.update(len(done))
    counts = _counts(batches, records)
    _publish(out, records, counts, {name: known[name] for name in rows["id"]}, rows if measure else None, config.seed)
    work.remove()
    return counts


def _rows(table: "pd.DataFrame", captioner: Captioner, limit: int) -> "pd.DataFrame":
    chosen = table[~table["opt_out"]]
    if not captioner.reads_pictures:
        chosen = chosen[scene_known(chosen)]
    chosen = chosen.head(limit) if limit > 0 else chosen
    if chosen.empty:
        why = "have a known scene" if not captioner.reads_pictures else "may be used"
        raise QI2Error(f"none of {len(table)} rows {why}; point to a folder that the ingest stage wrote, with such rows")
    return chosen.reset_index(drop=True)


def scene_known(table: "pd.DataFrame") -> "pd.Series[bool]":
    """Rows whose picture shows exactly the scene of the sidecar: planted defects are turned, cut or otherwise changed."""
    return table["scene"].map(_plain_scene) & (table["source"] != "defect")


def _plain_scene(text: str | None) -> bool:
    """Whether there is a scene, neither damaged nor drawn in outlines, for which the captions have no words."""
    scene = Scene.from_json(text) if text else None
    return scene is not None and not scene.damage and not scene.outlined


def _facts(rows: "pd.DataFrame", given: Mapping[str, str] | None) -> dict[str, str]:
    if given is not None:
        if not set(given) & set(rows["id"]):
            raise QI2Error(f"none of the {len(given)} ids of the facts is among the {len(rows)} rows; use the ids of {SIDECAR}")
        return {name: given.get(name, "") for name in rows["id"]}
    known: list[Row] = rows[["id", "captions", "caption_kind", "origin"]].to_dict("records")  # type: ignore[assignment]
    return {row["id"]: _own_facts(row) for row in known}


def _own_facts(row: Mapping[str, Any]) -> str:
    """What the sidecar knows: the caption that came with the picture, and where it comes from."""
    lines = [f"Caption: {row['captions'][0]}"] if len(row["captions"]) and row["caption_kind"] != "instruction" else []
    return "\n".join(lines + ([f"Source: {row['origin']}"] if row["origin"] else []))


def _plan(rows: "pd.DataFrame", tasks: Mapping[str, list[Task]], config: CaptionConfig, facts: Mapping[str, str]) -> list[Batch]:
    """Batches of one task, pictures of like size together, which saves padding."""
    order = (rows["width"] * rows["height"]).sort_values(kind="stable").index
    batches = []
    for scheme, group in tasks.items():
        usable = [row for row in order if facts[rows["id"][row]] or not SCHEMES[scheme].needs_facts]
        turn = {row: _draw(rows["id"][row], scheme, len(group), config) for row in usable} if config.one_each else {}
        for number, task in enumerate(group):
            mine = [row for row in usable if not turn or turn[row] == number]
            batches += [Batch(task, tuple(mine[start : start + config.batch_size])) for start in range(0, len(mine), config.batch_size)]
    return batches


def _draw(name: str, scheme: str, n: int, config: CaptionConfig) -> int:
    return int(numpy_rng(config.seed, f"captions/{scheme}/{name}").integers(n))


def _key(raw: Path, captioner: Captioner, config: CaptionConfig, templates: Mapping[str, str], facts: Mapping[str, str], limit: int) -> str:
    """A digest of all that the records and their order depend on."""
    settings = {name: value for name, value in asdict(config).items() if name not in ("path", "device", "templates")}
    parts = [captioner.identity, settings, dict(templates), dict(facts), limit, file_sha256(raw / SIDECAR)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _do(
    batch: Batch, rows: "pd.DataFrame", raw: Path, captioner: Captioner, config: CaptionConfig, templates: Mapping[str, str], facts: Mapping[str, str]
) -> list[Record]:
    requests, records = [], []
    chosen: list[Row] = rows.iloc[list(batch.rows)].to_dict("records")  # type: ignore[assignment]
    for row in chosen:
        name, prompt = row["id"], fill(templates[batch.task.template], batch.task, facts[row["id"]])
        try:
            image = _shown(raw, row) if captioner.reads_pictures else None
        except QI2Error as error:
            records.append(_record(name, batch.task, Checked(UNREADABLE, reason=str(error)), 0))
            continue
        scene = Scene.from_json(row["scene"]) if row["scene"] else None
        requests.append(Request(name, batch.task, prompt, facts[name], image, scene))
    for request, answer in zip(requests, captioner.answer(requests) if requests else [], strict=True):
        checked, attempts = _settled(captioner, request, answer, config)
        records.append(_record(request.id, batch.task, checked, attempts))
    return records


def _shown(raw: Path, row: Mapping[str, Any]) -> Image.Image:
    image = read_image(raw, row)
    if max(image.size) > MOST_ASPECT * min(image.size):
        raise QI2Error(f"image {row['id']} has {image.width} x {image.height} pixels; strips above {MOST_ASPECT} to 1 cannot be shown to the model")
    return image


def _settled(captioner: Captioner, request: Request, answer: Answer, config: CaptionConfig) -> tuple[Checked, int]:
    """The verdict on the answer, or on the first of the sampled ones that passes; each is asked alone, so that it depends on nothing but its key."""
    checked, attempts = _check(answer, request.task), 1
    while checked.status != OK and attempts <= config.retries:
        seed = key(config.seed, f"captions/{request.task.name}/{request.id}", attempts)
        checked, attempts = _check(captioner.answer([request], seed)[0], request.task), attempts + 1
    return checked, attempts


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
            (folder / EVALUATION).write_text(json.dumps({name: asdict(figure) for name, figure in figures.items()}, indent=1))
