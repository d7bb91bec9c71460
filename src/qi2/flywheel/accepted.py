"""What review accepted, as shards that supervised fine-tuning reads: every round writes all of it anew, so that one folder is one version.

Nothing of a held-out suite may be in it: the writer refuses rows that `qi2.flywheel.retrieval.leaks` finds there, and rows without a target.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.publish import publish
from qi2.data.shards import SIDECAR, Row, ShardWriter
from qi2.data.world.defects import encode_png
from qi2.data.world.edits import Edit
from qi2.data.world.scene import Scene

Picture = Callable[[str], Image.Image]


def rows(candidate: Any, picture: Picture) -> Iterator[Row]:
    """An accepted candidate as a row, after its references; ids come from what it shows, so that the same one twice is one."""
    facts = [candidate.task, candidate.prompt, candidate.target, *candidate.references]
    name = "accepted-" + hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    if not candidate.target:
        raise QI2Error(f"candidate {candidate.id} has no target picture; reject it, or give it one")
    origin = dict(candidate.origin)
    references = tuple(f"{name}-ref{i}" for i in range(len(candidate.references)))
    for own, sha in zip(references, candidate.references, strict=True):
        yield Row(own, encode_png(picture(sha)), "png", (), "accepted", "reference", "reference")
    truth = candidate.truth
    scene, edit = (truth, None) if truth and candidate.task == "t2i" else (None, truth or None)
    kind = str(origin.get("kind") or _kind(candidate.task, truth))
    instruction = "instruction" if candidate.task == "ti2i" else "general"
    data = encode_png(picture(candidate.target))
    yield Row(
        name, data, "png", (candidate.prompt,), "accepted", candidate.task, kind.removeprefix("edit/"), references,
        scene=scene, edit=edit, origin=str(origin.get("signal", "")), caption_kind=instruction,
    )  # fmt: skip


def _kind(task: str, truth: str) -> str:
    if not truth:
        return "accepted"
    return Scene.from_json(truth).kind if task == "t2i" else Edit.from_json(truth).kind


def write(candidates: Sequence[Any], picture: Picture, folder: Path) -> int:
    """Publish the accepted candidates as shards in ``folder``; how many they are. The same candidates give the same bytes."""
    seen: set[str] = set()
    with publish(folder) as staging, ShardWriter(staging) as writer:
        for candidate in sorted(candidates, key=lambda one: str(one.id)):
            for row in rows(candidate, picture):
                if row.id not in seen:
                    seen.add(row.id)
                    writer.add(row)
    return sum(1 for name in seen if "-ref" not in name)


def version(folder: Path) -> str:
    """SHA-256 of the shards' table: which data a round was trained with; empty without any."""
    from qi2.core.publish import file_sha256

    return file_sha256(folder / SIDECAR) if (folder / SIDECAR).exists() else ""
