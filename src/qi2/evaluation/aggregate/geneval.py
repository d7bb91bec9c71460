"""GenEval (Ghosh et al., 2023): is every asked-for object there, as often, in its colour and place as asked, and nothing that was excluded?

The detector's answer is {"objects": [{"class", "box": [left, top, right, bottom], "score", "color"}, ...]}. A row has ``include``, clauses
{"class", "count", "color"?, "position"?: [relation, index of an earlier clause]}, and ``exclude``, clauses {"class", "count"}; its category is the
task: single_object, two_object, counting, colors, position or color_attr. A picture is right or wrong; the score is the mean of the tasks' means.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qi2.evaluation.aggregate.base import Aggregator, Answer, Numbers, Options, per_category
from qi2.evaluation.suites.row import Row

CONFIDENCE, COUNTING_CONFIDENCE = 0.3, 0.9  # a detection must be above
MOST = 16  # detections per class
NEAR = 0.1  # of the summed sides: so far apart counts as no offset
RELATIONS = ("left of", "right of", "above", "below")
Found = Mapping[str, Any]


def measure(answer: Answer, row: Row, options: Options) -> Numbers:
    """``score``: 1 where the picture fulfils every clause, else 0."""
    return {"score": float(right(detected(answer["objects"], row.category), row.truth))}


def detected(objects: Sequence[Found], task: str) -> dict[str, list[Found]]:
    """{class: its detections, surest first}: those above the task's confidence, at most MOST of a class."""
    least = COUNTING_CONFIDENCE if task == "counting" else CONFIDENCE
    found: dict[str, list[Found]] = {}
    for item in sorted(objects, key=lambda item: -item["score"]):
        if item["score"] > least and len(found.setdefault(item["class"], [])) < MOST:
            found[item["class"]].append(item)
    return found


def right(found: Mapping[str, Sequence[Found]], truth: Mapping[str, Any]) -> bool:
    """All ``include`` clauses hold, and no ``exclude`` clause does. Colour and place are judged on the surest detections."""
    matched: list[Sequence[Found] | None] = []
    for clause in truth["include"]:
        group = found.get(clause["class"], [])[: clause["count"]]
        matched.append(group if _fulfils(group, clause, matched) else None)
    excluded = any(len(found.get(clause["class"], [])) >= clause["count"] for clause in truth.get("exclude", ()))
    return None not in matched and not excluded


def _fulfils(group: Sequence[Found], clause: Mapping[str, Any], matched: Sequence[Sequence[Found] | None]) -> bool:
    if len(group) < clause["count"]:
        return False
    if "color" in clause and sum(item.get("color") == clause["color"] for item in group) < clause["count"]:
        return False
    if "position" not in clause:
        return True
    relation, index = clause["position"]
    targets = matched[index]
    return targets is not None and all(relation in relations(item["box"], other["box"]) for item in group for other in targets)


def relations(box: Sequence[float], other: Sequence[float]) -> set[str]:
    """How a box (left, top, right, bottom) stands to another: none where they are too near for their sizes, two on a diagonal."""
    corners, others = (np.array(one, dtype=np.float64).reshape(2, 2) for one in (box, other))
    offset = corners.mean(axis=0) - others.mean(axis=0)
    sides = np.abs(corners[1] - corners[0]) + np.abs(others[1] - others[0])
    beyond = np.maximum(np.abs(offset) - NEAR * sides, 0) * np.sign(offset)
    if np.all(np.abs(beyond) < 1e-3):
        return set()
    dx, dy = beyond / np.linalg.norm(offset)
    return {name for name, holds in zip(RELATIONS, (dx < -0.5, dx > 0.5, dy < -0.5, dy > 0.5), strict=True) if holds}


def check(row: Row) -> str:
    """Clauses with class and count, and positions that name an earlier clause."""
    for number, clause in enumerate([*row.truth["include"], *row.truth.get("exclude", ())]):
        if not isinstance(clause, dict) or not {"class", "count"} <= clause.keys():
            return f"{clause!r} is no clause; it has class and count"
        relation, index = clause.get("position", (RELATIONS[0], -1))
        if relation not in RELATIONS or index >= number:
            return f"position {clause['position']!r} is not [{' | '.join(RELATIONS)}, index of an earlier clause]"
    return ""


AGGREGATOR = Aggregator("geneval", "detector", ("include",), measure, per_category, check)
