"""The shipped suites of the procedural world: held-out prompts whose truth its checkers can read.

A pure function of the seed: ``conf/suites/world-*.jsonl`` are its output, and a test holds that they still are.
"""

from collections.abc import Callable
from typing import Any

from qi2.core.rng import numpy_rng
from qi2.data.world.captions import captions
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import Object, Scene

SEED, SPLIT = 7, "heldout"
TASKS = {"single_object": "one", "two_object": "two", "counting": "count", "colors": "one", "position": "relation", "color_attr": "two"}
Line = dict[str, Any]


def compositional(each: int = 12) -> list[Line]:
    """``each`` rows of GenEval's six tasks in its format. Every prompt names colours; what is asked of the picture differs by task.

    Both objects of a prompt have different shapes: the rule engine takes the surest object of a class, and would mistake one circle for the other.
    """
    return [line for task in TASKS for line in _lines(task, TASKS[task], each, lambda scene, task=task: clauses(task, scene))]  # type: ignore[misc]


def text(each: int = 40) -> list[Line]:
    """Rows that ask for a two-letter word, alone or beside an object."""
    return _lines("word", "text", each, lambda scene: {"text": scene.words[0].text})


def portraits(each: int = 40) -> list[Line]:
    """Faces with hair, skin, glasses, expression, shirt and background, one question about each."""
    return _lines("portrait", "portrait", each, lambda scene: {"scene": scene.to_dict(), "questions": _of_face(scene)})


def layouts(each: int = 40) -> list[Line]:
    """Pages with a title and lines under it: whether they read as asked, and are as many."""
    return _lines("layout", "layout", each, lambda scene: {"scene": scene.to_dict(), "questions": _of_page(scene)})


def _of_face(scene: Scene) -> list[Line]:
    face = scene.portrait
    assert face is not None
    return [
        _question("hair", f"Is the hair {face.hair}?", "attribute"),
        _question("skin", f"Is the skin {face.skin}?", "attribute"),
        _question("glasses", "Does the face wear glasses?" if face.glasses else "Is the face without glasses?", "entity"),
        _question("expression", f"Is the expression {face.expression}?", "attribute"),
        _question("shirt", f"Is the shirt {face.shirt}?", "attribute"),
        _question("background", f"Is the background {scene.background}?", "global"),
    ]


def _of_page(scene: Scene) -> list[Line]:
    page = scene.layout
    assert page is not None
    words = ", ".join((page.title, *page.lines))
    return [
        _question("word", f"Does the page read, line by line from the top: {words}, and nothing else?", "text"),
        _question("count", f"Are there exactly {1 + len(page.lines)} lines, the title among them?", "entity"),
        _question("background", f"Is the background {scene.background}?", "global"),
    ]


def _question(attribute: str, text: str, kind: str) -> Line:
    """One that hangs on no other; its id is the checker's attribute."""
    return {"id": attribute, "question": text, "parents": [], "kind": kind}


def clauses(task: str, scene: Scene) -> Line:
    """GenEval's clauses for a scene."""
    first, count = scene.objects[0], len(scene.objects)
    if task == "counting":
        return {"include": [_clause(first, count)], "exclude": [{"class": first.shape, "count": count + 1}]}
    if task == "position":
        return {"include": [_clause(scene.objects[1]), {**_clause(first), "position": [scene.relation, 0]}]}
    colored = task in ("colors", "color_attr")
    return {"include": [_clause(item) | ({"color": item.color} if colored else {}) for item in scene.objects]}


def _clause(item: Object, count: int = 1) -> Line:
    return {"class": item.shape, "count": count}


def _lines(category: str, kind: str, each: int, truth: Callable[[Scene], Line]) -> list[Line]:
    rows: dict[Scene, Line] = {}
    for index in range(each * 50):
        rng = numpy_rng(SEED, f"suites/{category}", index)
        scene = sample_scene(rng, kind, SPLIT)
        different = kind == "count" or len({item.shape for item in scene.objects}) == len(scene.objects)
        if different and scene not in rows:
            rows[scene] = {"id": f"{category}-{len(rows)}", "category": category, "prompt": captions(scene, rng, 1)[0], **truth(scene)}
        if len(rows) == each:
            break
    return list(rows.values())
