"""Exact captions in every scheme, written from the scene graph (report 2.2). They are true, so they serve as data and as the measure of captioners.

Captions of all lengths state every object with its count, the background, the words, and the scene's own relation; medium ones add
where everything is, long ones how the objects stand to one another and that nothing else is there.
"""

from collections.abc import Iterator

from qi2.data.captions.graph import structured_truth
from qi2.data.captions.transcript import Item, write_transcript
from qi2.data.captions.words import Words, join, words
from qi2.data.world.palette import half, place
from qi2.data.world.scene import Object, Scene, Word

LENGTHS = ("short", "medium", "long")
LINE_PLACES = ("middle", "lower middle", "bottom")
_SAID = {"kind", "grid", "background", "objects", "words", "relation", "portrait", "layout", "texture"}  # the fields that captions speak of


def general(scene: Scene, language: str, length: str) -> str:
    """A natural-language caption; raises QI2Error for a language without words."""
    table = words(language)
    return str(table["say"]["space"]).join(_sentences(scene, table, length))


def knowledge(scene: Scene, language: str, facts: str) -> str:
    """What is seen, and then the facts as they were given, in one paragraph."""
    table = words(language)
    return str(table["say"]["space"]).join([general(scene, language, "medium"), " ".join(facts.split())])


def text(scene: Scene) -> str:
    """All words with their places in reading order, as the text scheme writes them."""
    if scene.layout:
        kinds = ["title, top", *(f"line, {name}" for name in LINE_PLACES[: len(scene.layout.lines)])]
        items = [Item(what, line) for what, line in zip(kinds, (scene.layout.title, *scene.layout.lines), strict=True)]
        return write_transcript(items, "a title over a rule, and centred lines below it")
    ordered = sorted(scene.words, key=lambda word: (word.row, word.col))
    return write_transcript([Item(f"word, {half(word.row, scene.grid)}", word.text) for word in ordered], "large capital letters")


def structured(scene: Scene) -> str:
    """Canonical JSON of the scene's entities, texts and relations."""
    return structured_truth(scene).to_json()


def sayable(scene: Scene) -> bool:
    """Whether the scene has exact captions: it says nothing beyond what they speak of, and all of it has words."""
    if not set(scene.to_dict()) <= _SAID:
        return False
    try:
        general(scene, "en", "long"), text(scene)
    except (LookupError, ValueError):
        return False
    return True


def _sentences(scene: Scene, table: Words, length: str) -> Iterator[str]:
    say, level = table["say"], LENGTHS.index(length)
    special = "portrait" if scene.portrait else "page" if scene.layout else "objects"
    if special != "objects":
        yield _sentence(_portrait(scene, table) if scene.portrait else _page(scene, table), table)
        if level > 0:
            yield say["rest"][special]
        if level > 1:
            yield say["no_text"] if scene.portrait else say["order"].format(lines=join(_lines(scene), say["and_items"]))
    else:
        yield from _objects(scene, table, level)


def _objects(scene: Scene, table: Words, level: int) -> Iterator[str]:
    say, ground = table["say"], _ground(scene, table)
    if scene.relation:
        yield _sentence(say["on_placed"].format(items=_related(scene.objects[0], scene.relation, scene.objects[1], table), ground=ground), table)
    elif level == 0:
        yield _sentence(say["on_items"].format(items=_items(scene, table), ground=ground), table)
    if level > 0:
        yield _sentence(_placed(scene, table) if scene.relation else say["on_placed"].format(items=_placed(scene, table), ground=ground), table)
    if level > 1:
        yield from (_sentence(_related(a, relation, b, table, "stands"), table) for a, relation, b in neighbours(scene) if not scene.relation)
        if not scene.words:
            yield say["no_text"]
        yield say["rest"]["objects"]


def groups(scene: Scene) -> list[list[Object]]:
    """Objects of one colour and shape together, in reading order of the first of each."""
    found: dict[tuple[str, str], list[Object]] = {}
    for item in sorted(scene.objects, key=lambda item: item.cell):
        found.setdefault(item.combo, []).append(item)
    return list(found.values())


def neighbours(scene: Scene) -> list[tuple[Object, str, Object]]:
    """(a, "left of" or "above", b) for objects of their own look in one row or one column."""
    alone = [group[0] for group in groups(scene) if len(group) == 1]
    pairs = [(a, b) for a in alone for b in alone if a.cell < b.cell and (a.row == b.row or a.col == b.col)]
    return [(a, "left of" if a.row == b.row else "above", b) for a, b in pairs]


def _items(scene: Scene, table: Words) -> str:
    return join([_named(group, table) for group in groups(scene)] + [_word(word, table) for word in scene.words], table["say"]["and_items"])


def _placed(scene: Scene, table: Words) -> str:
    say = table["say"]
    parts = [(group[0].cell, _named(group, table), [place(item.row, item.col, scene.grid) for item in group]) for group in groups(scene)]
    parts += [((word.row, word.col), _word(word, table), [half(word.row, scene.grid)]) for word in scene.words]
    texts = [
        say["placed"].format(o=name, p=join([table["places"][one] for one in places], say["and_places"]))
        for _, name, places in sorted(parts, key=lambda part: part[0])
    ]
    return join(texts, say["and_placed"])


def _named(group: list[Object], table: Words) -> str:
    return _object(group[0], table, "object") if len(group) == 1 else _object(group[0], table, "several", table["numbers"][str(len(group))])


def _object(item: Object, table: Words, role: str, number: str = "") -> str:
    shape = table["shapes"][item.shape]
    return str(table["say"][role][shape[2]].format(c=table["colors"][item.color], s=shape, n=number))


def _related(a: Object, relation: str, b: Object, table: Words, phrase: str = "relation") -> str:
    names = {"a": _object(a, table, "object"), "b": _object(b, table, "second"), "r": table["relations"][relation]}
    return str(table["say"][phrase].format(**names))


def _word(word: Word, table: Words) -> str:
    return str(table["say"]["word"].format(w=word.text))


def _ground(scene: Scene, table: Words) -> str:
    return str(table["say"]["ground"].format(bg=table["backgrounds"][scene.background], t=table["textures"][scene.texture]))


def _portrait(scene: Scene, table: Words) -> str:
    face = scene.portrait
    assert face is not None
    named = {"e": table["expressions"][face.expression], "h": table["hair"][face.hair], "k": table["skin"][face.skin]}
    return str(table["say"]["portrait"].format(**named, g=table["glasses"][int(face.glasses)], c=table["colors"][face.shirt], ground=_ground(scene, table)))


def _page(scene: Scene, table: Words) -> str:
    say, (title, *lines) = table["say"], _lines(scene)
    listed = say["lines"][min(len(lines), 2) - 1].format(lines=join(lines, say["and_items"]))
    return str(say["page"].format(bg=table["backgrounds"][scene.background], t=table["textures"][scene.texture], title=title, lines=listed))


def _lines(scene: Scene) -> list[str]:
    assert scene.layout is not None
    return [scene.layout.title, *scene.layout.lines]


def _sentence(phrase: str, table: Words) -> str:
    return phrase[0].upper() + phrase[1:] + table["say"]["end"]
