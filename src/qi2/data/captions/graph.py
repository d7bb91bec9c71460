"""The scene graph as a structured caption: what is there, exactly where (measured on the drawing), and how it stands to one another."""

from functools import lru_cache
from itertools import combinations

from qi2.data.captions.structured import Box, Entity, Relation, Structured, Text, Thing
from qi2.data.world.render import cell_box, mark_mask
from qi2.data.world.rich import line_mask, line_top
from qi2.data.world.scene import Layout, Portrait, Scene, Word

SIZE = 480  # px of the drawing that boxes are measured on: cells of two, three and four columns are whole numbers there
SPATIAL = ("left of", "right of", "above", "below")


def structured_truth(scene: Scene) -> Structured:
    """The exact structured caption. Spatial relations are given between things that share a row or a column, once, as left of or above."""
    attributes = {"background": scene.background} | ({"texture": scene.texture} if scene.texture != "plain" else {})
    if scene.portrait:
        return Structured(attributes, *_face(scene.portrait))
    entities = tuple(
        Entity(f"e{i}", item.shape, {"color": item.color}, _mark_box(item.shape, scene.grid, item.cell))
        for i, item in enumerate(sorted(scene.objects, key=lambda item: item.cell), 1)
    )
    texts = _page(scene.layout) if scene.layout else tuple(_word(i, word, scene.grid) for i, word in enumerate(_in_order(scene), 1))
    return Structured(attributes, entities, texts, tuple(_spatial(entities, texts)))


def spatial_relations(a: Box, b: Box) -> set[str]:
    """What holds of box ``a`` towards box ``b`` by their centres."""
    dx, dy = (a[0] + a[2]) - (b[0] + b[2]), (a[1] + a[3]) - (b[1] + b[3])
    near = 0.02
    found = {"left of": dx < -near, "right of": dx > near, "above": dy < -near, "below": dy > near}
    return {name for name, holds in found.items() if holds}


def _in_order(scene: Scene) -> list[Word]:
    return sorted(scene.words, key=lambda word: (word.row, word.col))


def _face(face: Portrait) -> tuple[tuple[Entity, ...], tuple[Text, ...], tuple[Relation, ...]]:
    things = [
        Entity("e1", "face", {"expression": face.expression, "skin": face.skin}),
        Entity("e2", "hair", {"color": face.hair}),
        Entity("e3", "shirt", {"color": face.shirt}),
    ]
    relations = [Relation("e1", "has", "e2"), Relation("e1", "wears", "e3")]
    if face.glasses:
        things.append(Entity("e4", "glasses"))
        relations.append(Relation("e1", "wears", "e4"))
    return tuple(things), (), tuple(relations)


def _spatial(entities: tuple[Entity, ...], texts: tuple[Text, ...]) -> list[Relation]:
    things: list[Thing] = [*entities, *texts]
    placed = [(item.id, item.box) for item in things if item.box]
    relations = []
    for (one, a), (two, b) in combinations(placed, 2):
        if a[1] < b[3] and b[1] < a[3]:
            relations.append(Relation(one, "left of", two) if a[0] < b[0] else Relation(two, "left of", one))
        elif a[0] < b[2] and b[0] < a[2]:
            relations.append(Relation(one, "above", two) if a[1] < b[1] else Relation(two, "above", one))
    return relations


def _word(number: int, word: Word, grid: tuple[int, int]) -> Text:
    boxes = [_mark_box(letter, grid, cell) for letter, cell in zip(word.text, word.cells(), strict=True)]
    return Text(f"t{number}", word.text, "word", (boxes[0][0], min(box[1] for box in boxes), boxes[-1][2], max(box[3] for box in boxes)))


def _page(layout: Layout) -> tuple[Text, ...]:
    lines = (layout.title, *layout.lines)
    return tuple(Text(f"t{i + 1}", line, "line" if i else "title", _line_box(line, i)) for i, line in enumerate(lines))


@lru_cache(maxsize=4096)
def _mark_box(mark: str, grid: tuple[int, int], cell: tuple[int, int]) -> Box:
    left, top, right, bottom = cell_box(grid, cell, SIZE)
    return _relative(mark_mask(mark, right - left, bottom - top).getbbox(), left, top)


@lru_cache(maxsize=4096)
def _line_box(line: str, index: int) -> Box:
    return _relative(line_mask(line, index == 0, SIZE).getbbox(), 0, line_top(index, SIZE))


def _relative(inked: tuple[int, int, int, int] | None, left: int, top: int) -> Box:
    assert inked is not None
    x0, y0, x1, y1 = inked
    return round((left + x0) / SIZE, 3), round((top + y0) / SIZE, 3), round((left + x1) / SIZE, 3), round((top + y1) / SIZE, 3)
