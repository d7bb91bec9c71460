"""What is true of a scene, as plain tuples that no language colours: the truth that captions in any language are held against.

``("object", "red", "circle")``, ``("count", "red", "circle", "3")``, ``("background", "white")``, ``("texture", "dots")``,
``("relation", "red", "circle", "above", "blue", "star")``, ``("word", "KO")``, and for faces hair, skin, glasses, expression and shirt.
"""

from collections import Counter

from qi2.data.world.scene import Object, Portrait, Scene

Fact = tuple[str, ...]
_TURNED = {"right of": "left of", "below": "above"}


def facts(scene: Scene) -> set[Fact]:
    """What every caption of the scene should state, whatever its length."""
    found: set[Fact] = {("background", scene.background)}
    if scene.texture != "plain":
        found.add(("texture", scene.texture))
    for combo, number in Counter(item.combo for item in scene.objects).items():
        found.add(("object", *combo))
        if number > 1:
            found.add(("count", *combo, str(number)))
    if scene.relation:
        found.add(relation(scene.objects[0].combo, scene.relation, scene.objects[1].combo))
    return found | _words(scene) | (_face(scene.portrait) if scene.portrait else set())


def true_facts(scene: Scene) -> set[Fact]:
    """All that may be stated: the facts, and how any two objects stand to one another."""
    return facts(scene) | {relation(a.combo, name, b.combo) for a in scene.objects for b in scene.objects for name in _spatial(a, b)}


def relation(a: tuple[str, str], name: str, b: tuple[str, str]) -> Fact:
    """The fact that ``a`` is NAME ``b``, turned so that it says left of or above."""
    return ("relation", *b, _TURNED[name], *a) if name in _TURNED else ("relation", *a, name, *b)


def _spatial(a: Object, b: Object) -> list[str]:
    return ["left of"] * (a.col < b.col) + ["above"] * (a.row < b.row)


def _words(scene: Scene) -> set[Fact]:
    lines = (scene.layout.title, *scene.layout.lines) if scene.layout else ()
    return {("word", text) for text in (*lines, *(word.text for word in scene.words))}


def _face(face: Portrait) -> set[Fact]:
    named = {"hair": face.hair, "skin": face.skin, "expression": face.expression, "shirt": face.shirt}
    return {*named.items(), ("glasses", "yes" if face.glasses else "no")}
