"""Text and structured captions against the truth: which strings, entities and relations were found, and which are false."""

from qi2.core.errors import QI2Error
from qi2.data.captions.graph import SPATIAL, spatial_relations, structured_truth
from qi2.data.captions.intervals import Ratio
from qi2.data.captions.structured import Box, Entity, Structured
from qi2.data.captions.transcript import read_transcript
from qi2.data.captions.truth import text as true_text
from qi2.data.world.scene import Scene

Triple = tuple[str, str, str]
_TURNED = {"right of": "left of", "below": "above"}
_JUDGED = (*SPATIAL, "has", "wears")  # other relations may be true of a picture; the scene graph cannot tell


def text_ratios(caption: str, scene: Scene) -> dict[str, Ratio]:
    """``cer``: letters to change over letters there are; ``exact``: all strings right and in order; ``order``: those that are right are in order."""
    true, found = [item.text for item in read_transcript(true_text(scene))], _strings(caption)
    if found is None:  # refused or invalid: nothing was read, and an empty page does not make that right
        found = []
        exact = False
    else:
        exact = found == true
    ratios: dict[str, Ratio] = {"exact": (exact, 1), "cer": (edit_distance("\n".join(found), "\n".join(true)), len("\n".join(true)))}
    right = [text for text in found if text in true]
    if len(set(right)) > 1:
        ratios["order"] = (right == [text for text in true if text in right], 1)
    return ratios


def _strings(caption: str) -> list[str] | None:
    try:
        return [item.text for item in read_transcript(caption)]
    except QI2Error:
        return None


def edit_distance(a: str, b: str) -> int:
    """Letters to insert, delete or replace to make ``b`` of ``a``."""
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (one != other))
    return row[-1]


def structured_ratios(caption: str, scene: Scene) -> dict[str, Ratio]:
    """Precision, recall and F1 of entities (name and attributes) and of relations; ``exact``: these, the texts and the background all right.

    ``box_overlap``: mean intersection over union of the boxes of what was found, 0 where the caption gives none; ``exact`` asks for no box.
    A relation that holds by the centres but is not among those needed (only one row or column is) counts neither way in F1.
    """
    true = structured_truth(scene)
    try:
        found = Structured.from_json(caption)
    except QI2Error:
        missed = {f"{kind}_recall": (0.0, float(len(items))) for kind, items in (("entity", true.entities), ("relation", true.relations))}
        return {**missed, "entity_f1": (0, len(true.entities)), "relation_f1": (0, len(true.relations)), "exact": (0, 1)}
    names = match(found, true)
    right = sum(item.id in names for item in found.entities)
    needed, given = _triples(true, {item.id: item.id for item in true.things}), _triples(found, names)
    holding = needed | _holding(true)
    hits, false = len(given & needed), len(given - holding)
    same = [item.text for item in found.texts] == [item.text for item in true.texts] and true.scene.items() <= found.scene.items()
    whole = same and right == len(true.entities) == len(found.entities) and needed <= given <= holding
    return {
        "entity_precision": (right, len(found.entities)),
        "entity_recall": (right, len(true.entities)),
        "entity_f1": (2 * right, len(found.entities) + len(true.entities)),
        "relation_precision": (len(given) - false, len(given)),
        "relation_recall": (hits, len(needed)),
        "relation_f1": (2 * hits, hits + false + len(needed)),
        "box_overlap": _boxes(found, true, names),
        "exact": (whole, 1),
    }


def _boxes(found: Structured, true: Structured, names: dict[str, str]) -> Ratio:
    given, boxes = {item.id: item.box for item in found.things}, {item.id: item.box for item in true.things}
    pairs = [(given[one], box) for one, other in names.items() if (box := boxes[other])]
    return sum(_overlap(one, box) for one, box in pairs if one), len(pairs)


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    sides = [max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1)]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    shared = sides[0] * sides[1]
    return 1.0 if a == b else shared / (sum(areas) - shared)


def match(found: Structured, true: Structured) -> dict[str, str]:
    """Id in ``found`` to id in ``true``, for entities with the same name and the true attributes (nearest box first) and for equal texts."""
    names: dict[str, str] = {}
    for item in found.entities:
        free = [other for other in true.entities if other.id not in names.values() and _same(item, other)]
        if free:
            names[item.id] = min(free, key=lambda other: _distance(item.box, other.box)).id
    for text in found.texts:
        equal = [other.id for other in true.texts if other.id not in names.values() and other.text == text.text]
        names |= {text.id: equal[0]} if equal else {}
    return names


def _same(item: Entity, true: Entity) -> bool:
    attributes = {key.casefold(): value.casefold() for key, value in item.attributes.items()}
    return item.name.casefold() == true.name and true.attributes.items() <= attributes.items()


def _distance(a: Box | None, b: Box | None) -> float:
    if a is None or b is None:
        return 0.0
    return abs(a[0] + a[2] - b[0] - b[2]) + abs(a[1] + a[3] - b[1] - b[3])


def _triples(graph: Structured, names: dict[str, str]) -> set[Triple]:
    """Relations in true ids, turned so that they say left of or above; a thing that does not exist keeps its own id, marked."""
    found = set()
    for item in graph.relations:
        relation, a, b = item.relation.casefold(), names.get(item.subject, f"?{item.subject}"), names.get(item.object, f"?{item.object}")
        if relation in _JUDGED:
            found.add((b, _TURNED[relation], a) if relation in _TURNED else (a, relation, b))
    return found


def _holding(true: Structured) -> set[Triple]:
    placed = [(item.id, item.box) for item in true.things if item.box]
    triples = {(one, name, two) for one, a in placed for two, b in placed for name in spatial_relations(a, b)}
    return {triple for triple in triples if triple[1] not in _TURNED}
