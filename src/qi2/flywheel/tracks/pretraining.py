"""The pre-training track: failures for want of knowledge become candidates of new training data (report section 2.4, retrieve, generalise, augment).

Where the truth of a failing prompt is known, scenes and edits like it are drawn from the world's training split and rendered exactly. Else rows of the run
that no training stage uses and that lie near the prompt are taken, captioned anew where a captioner is given. No prompt or picture of a signal is ever
used itself. What training has already and what is held out is left out; the rest waits for review.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.publish import publish
from qi2.core.rng import numpy_rng
from qi2.data.captions.config import CaptionConfig
from qi2.data.curate_config import STAGES
from qi2.data.shards import Row, ShardWriter, Sidecar
from qi2.data.stages import BALANCE, NOT_ADMITTED
from qi2.data.world.captions import captions
from qi2.data.world.defects import encode_png
from qi2.data.world.edits import Edit, instructions, sample_edit
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import Scene
from qi2.flywheel.retrieval.corpus import Corpus, Neighbour
from qi2.flywheel.retrieval.leaks import HeldOut, look
from qi2.flywheel.review.candidate import Candidate
from qi2.flywheel.review.queue import ReviewQueue

TRACK = "pretraining"
ACCEPTED = "accepted"  # the source of the rows that review accepted
PROVENANCE = "provenance.json"  # beside them: by row id what each was made from
DRAWS = 200  # training scenes per wanted one, of which the likest are taken
DEEP = 512  # neighbours among which unused rows are looked for
SHOWN = 4  # neighbours that the reviewer sees
HARMLESS = (BALANCE, NOT_ADMITTED, "aesthetic", "token_length")  # reasons for which a stage left out a row with which nothing is wrong


@dataclass
class Track:
    """What the track works with. ``captioner``: of `qi2.data.captions.captioner`, for unused rows; None leaves their captions as they are."""

    corpus: Corpus
    queue: ReviewQueue
    heldout: HeldOut
    curated: Path | None = None  # the folder of the stage `curate`
    captioner: Any = None
    captions: CaptionConfig = field(default_factory=CaptionConfig)
    size: int = 64
    seed: int = 0
    refused: dict[str, tuple[str, ...]] = field(default_factory=dict)  # candidates that would have leaked, and why


def candidates(decisions: Sequence[Any], cases: Mapping[str, Any], most: int, track: Track) -> list[Candidate]:
    """At most ``most`` candidates for the decisions of this track, in turn over their prompts; pictures are kept in the queue, which is not touched else.

    ``cases`` by id have prompt, task, kind and, where known, truth. The same input gives the same candidates.
    """
    chosen = [decision for decision in decisions if decision.track == TRACK and decision.signal in cases]
    if not chosen or most < 1:
        return []
    share = -(-most // len(chosen))
    near = track.corpus.near([cases[decision.signal].prompt for decision in chosen], k=DEEP if track.curated else SHOWN)
    known = {look(Scene.from_json(row["scene"])) for row in track.corpus.rows.values() if row.get("scene") and row["task"] == "t2i"}
    known |= {_facts(Edit.from_json(row["edit"])) for row in track.corpus.rows.values() if row.get("edit")}
    truths = [cases[decision.signal].truth for decision in chosen if cases[decision.signal].truth]
    known |= {_facts(truth) if isinstance(truth, Edit) else look(truth) for truth in truths}  # what measures is not what is learnt
    unused = unused_rows(track.curated) - taken_rows(track.corpus) if track.curated else set()
    found: dict[str, Candidate] = {}
    for decision, neighbours in zip(chosen, near, strict=True):
        case, made = cases[decision.signal], 0
        for one in _rendered(case, neighbours, known, share, track) if case.truth else _pooled(case, neighbours, unused, track):
            if made >= share or len(found) >= most:
                break
            if one.id in found:
                continue
            if reasons := track.heldout.reasons(one, track.queue.picture):
                track.refused[one.id] = tuple(reasons)
                continue
            found[one.id], made = one, made + 1
    return list(found.values())


def likeness(wanted: Scene | Edit, drawn: Scene | Edit) -> float:
    """How much of what a failing sample is about another one has: its coloured shapes and words above all, then their parts, number and relation."""
    own, other = _parts(wanted), _parts(drawn)
    return sum(weight for part, weight in own.items() if part in other) - 0.1 * len(other.keys() - own.keys())


def unused_rows(curated: Path) -> set[str]:
    """Ids of training rows that no stage of the run uses although nothing is wrong with them."""
    import pandas as pd

    reasons = [f"reason_{name}" for name in STAGES]
    try:
        table = pd.read_parquet(Path(curated) / "scores.parquet", columns=["id", "split", *reasons])
    except Exception as error:  # no file, or other columns
        raise QI2Error(f"{curated} holds no scores.parquet of the curate stage ({error}); run it, or give no folder") from error
    idle = table[reasons].notna().all(axis=1) & table[reasons].isin(HARMLESS).all(axis=1) & (table["split"] == "train")
    return set(table["id"][idle])


def taken_rows(corpus: Corpus) -> set[str]:
    """Ids of the rows of a run from which samples of the corpus were made that earlier rounds accepted."""
    folders = {Path(row["folder"]) for row in corpus.rows.values() if row["source"] == ACCEPTED}
    told = [json.loads(path.read_text())["rows"] for folder in folders if (path := folder / PROVENANCE).exists()]
    return {str(origin["row"]) for rows in told for origin in rows.values() if "row" in origin}


def write_accepted(queue: ReviewQueue, out: Path, heldout: HeldOut) -> dict[str, float]:
    """Publish what review accepted as shards with a sidecar, and ``provenance.json`` by row id; the same decisions give the same bytes.

    An edited prompt or a picture may be held out since: what `HeldOut` refuses is left out and counted. Returns rows, refused.
    """
    accepted = sorted(queue.accepted(), key=lambda one: one.id)
    refused = {refusal.id: list(refusal.reasons) for refusal in heldout.check(accepted, queue.picture)}
    kept = [one for one in accepted if one.id not in refused]
    figures = {"rows": float(len(kept)), "refused": float(len(refused))}
    provenance = {one.id: {**dict(one.origin), "truth": one.truth, "original_id": one.id} for one in kept}
    with publish(out) as staging:
        with ShardWriter(staging) as writer:
            for one in kept:
                for row in _rows(one, queue):
                    writer.add(row)
        (staging / PROVENANCE).write_text(json.dumps({"rows": provenance, "refused": refused}, indent=1, sort_keys=True))
        (staging / "metrics.json").write_text(json.dumps(figures))
    return figures


def stale(queue: ReviewQueue, out: Path) -> bool:
    """Whether what `write_accepted` has published is not what review accepts now: a sample was erased since, a decision taken back or another made."""
    path = Path(out) / PROVENANCE
    if not path.exists():
        return False
    told = json.loads(path.read_text())
    published = {name: row["review"] for name, row in told["rows"].items()} | dict.fromkeys(told["refused"])
    return published != {one.id: None if one.id in told["refused"] else one.origin["review"] for one in queue.accepted()}


def _rows(one: Candidate, queue: ReviewQueue) -> Iterator[Row]:
    names = tuple(f"{one.id}-ref{i}" for i in range(len(one.references)))
    told: dict[str, Any] = {"source": ACCEPTED, "licence": str(one.origin.get("licence") or "CC0-1.0"), "origin": f"flywheel {one.origin.get('how', '')}"}
    for name, sha in zip(names, one.references, strict=True):
        yield Row(name, encode_png(queue.picture(sha)), "png", (), task="reference", kind="reference", **told)
    edit = Edit.from_json(one.truth) if one.truth and one.task == "ti2i" else None
    scene = edit.target.to_json() if edit else one.truth or None
    region = json.dumps(edit.region) if edit else None
    yield Row(
        one.id, encode_png(queue.picture(one.target)), "png", (one.prompt,), task=one.task, kind=str(one.origin.get("kind") or "accepted"), references=names,
        region=region, scene=scene, edit=one.truth if edit else None, caption_kind="instruction" if one.task == "ti2i" else "general", **told,
    )  # fmt: skip


def _rendered(case: Any, neighbours: Sequence[Neighbour], known: set[str], share: int, track: Track) -> Iterator[Candidate]:
    """Training-split samples like the failing one, the likest first; what training has, or what was made before, is not made again."""
    rng = numpy_rng(track.seed, f"flywheel/pretraining/{case.id}")
    edit = isinstance(case.truth, Edit)
    kind = case.truth.kind
    drawn = [sample_edit(rng, kind) if edit else sample_scene(rng, kind) for _ in range(DRAWS * min(share, 8))]
    for sample in sorted(drawn, key=lambda other: -likeness(case.truth, other)):
        facts = _facts(sample) if isinstance(sample, Edit) else look(sample)
        if facts in known:
            continue
        known.add(facts)
        yield _edit(sample, case, neighbours, track, rng) if isinstance(sample, Edit) else _scene(sample, case, neighbours, track, rng)


def _scene(scene: Scene, case: Any, neighbours: Sequence[Neighbour], track: Track, rng: Any) -> Candidate:
    return _candidate(case, captions(scene, rng, 1)[0], render(scene, track.size), (), scene.to_json(), scene.kind, "render", neighbours, track)


def _edit(edit: Edit, case: Any, neighbours: Sequence[Neighbour], track: Track, rng: Any) -> Candidate:
    bases = tuple(render(scene, track.size) for scene in edit.references)
    return _candidate(case, instructions(edit, rng, 1)[0], render(edit.target, track.size), bases, edit.to_json(), edit.kind, "render", neighbours, track)


def _pooled(case: Any, neighbours: Sequence[Neighbour], unused: set[str], track: Track) -> Iterator[Candidate]:
    """Unused rows of the failing prompt's task, the nearest first."""
    for one in neighbours:
        if one.id not in unused or one.task != case.task:
            continue
        row = track.corpus.rows[one.id]
        try:
            target = track.corpus.image(one.id)
            bases = tuple(Sidecar.load(Path(row["folder"])).image(name) for name in row["references"])
        except QI2Error:
            continue
        prompt = _recaptioned(row, target, track) if row["task"] == "t2i" else one.caption
        facts = {"row": one.id, "licence": row["licence"]}
        facts |= {} if prompt in row["captions"] or track.captioner is None else {"captioned_by": str(track.captioner.identity)}
        yield _candidate(case, prompt, target, bases, row["edit"] or row["scene"] or "", row["kind"] or "", "pool", neighbours, track, facts)


def _recaptioned(row: Mapping[str, Any], image: Image.Image, track: Track) -> str:
    """A new caption by the run's captioner, in the first of its languages; the row's own where there is none, or where no attempt passes its check."""
    from qi2.data.captions.answers import OK
    from qi2.data.captions.captioner import Request
    from qi2.data.captions.prompts import fill, load_templates
    from qi2.data.captions.rows import read_scene
    from qi2.data.captions.run import settle
    from qi2.data.captions.schemes import Task

    config = track.captions
    if track.captioner is None:
        return str(row["captions"][0])
    task = Task("general", language=config.languages[0], length="medium" if "medium" in config.lengths else config.lengths[0])
    request = Request(row["id"], task, fill(load_templates([task], config.templates)[task.template], task, ""), "", image, read_scene(row["scene"]))
    answers = track.captioner.answer([request])
    checked = settle(track.captioner, config, request, answers[0])[0] if answers else None
    return checked.caption if checked and checked.status == OK else str(row["captions"][0])


def _candidate(
    case: Any, prompt: str, target: Image.Image, bases: Sequence[Image.Image], truth: str, kind: str, how: str, neighbours: Sequence[Neighbour],
    track: Track, more: Mapping[str, Any] | None = None,
) -> Candidate:  # fmt: skip
    shown = [{"id": n.id, "similarity": round(n.similarity, 4), "caption": n.caption, "kind": n.kind} for n in neighbours[:SHOWN]]
    own, names = track.queue.keep(target), tuple(track.queue.keep(base) for base in bases)
    name = "accepted-" + hashlib.sha256(json.dumps([case.task, prompt, own, names]).encode()).hexdigest()[:16]
    origin = {"signal": case.id, "kind": kind, "how": how, "track": TRACK, "failing": case.kind, "neighbours": shown, **(more or {})}
    return Candidate(name, case.task, prompt, own, names, origin, truth)


def _facts(edit: Edit) -> str:
    return repr((edit.kind, *map(look, (*edit.references, edit.target))))


def _parts(sample: Scene | Edit) -> dict[Any, float]:
    if isinstance(sample, Edit):
        slots = dict.fromkeys(sample.slots, 1.5)
        return {**_parts(sample.target), **slots}
    found: dict[Any, float] = {("number", len(sample.objects)): 1.0, ("background", sample.background): 0.2}
    for item in sample.objects:
        found |= {("combo", item.combo): 3.0, ("color", item.color): 0.5, ("shape", item.shape): 0.5, ("place", item.cell): 0.1}
    for word in sample.words:
        found |= {("word", word.text): 3.0} | {("letter", i, letter): 1.0 for i, letter in enumerate(word.text)}
    if sample.relation:
        found["relation", sample.relation] = 1.5
    for part in (sample.portrait, sample.layout):
        found |= {(name, str(value)): 1.0 for name, value in vars(part).items()} if part else {}
    return found
