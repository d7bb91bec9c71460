"""The structured caption (report 2.2): entities with attributes, the relations between them, and texts, as JSON that is checked key by key."""

import json
from dataclasses import dataclass, field
from typing import Any

from qi2.core.errors import QI2Error

Box = tuple[float, float, float, float]
THOUSANDTHS = 1000  # Qwen3-VL's own unit of boxes


@dataclass(frozen=True)
class Entity:
    """One thing; ``box`` is left, top, right, bottom as fractions of the picture's sides."""

    id: str
    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    box: Box | None = None


@dataclass(frozen=True)
class Text:
    """One readable text, exactly as written; ``role`` is what it is, e.g. title, line, word or label."""

    id: str
    text: str
    role: str = ""
    box: Box | None = None


Thing = Entity | Text


@dataclass(frozen=True)
class Relation:
    """``subject`` RELATION ``object``; both are ids of entities or texts."""

    subject: str
    relation: str
    object: str


@dataclass(frozen=True)
class Structured:
    """A whole picture; ``scene`` holds attributes of the picture itself, such as its background; texts are in reading order."""

    scene: dict[str, str] = field(default_factory=dict)
    entities: tuple[Entity, ...] = ()
    texts: tuple[Text, ...] = ()
    relations: tuple[Relation, ...] = ()

    def to_json(self) -> str:
        """Canonical JSON: fixed order of keys, attributes sorted, no box where there is none."""
        values = {
            "scene": dict(sorted(self.scene.items())),
            "entities": [_plain(item) for item in self.entities],
            "texts": [_plain(item) for item in self.texts],
            "relations": [_plain(item) for item in self.relations],
        }
        return json.dumps(values, ensure_ascii=False)

    @property
    def things(self) -> list[Thing]:
        """Entities and texts: all that a relation can name."""
        return [*self.entities, *self.texts]

    @staticmethod
    def from_json(text: str) -> "Structured":
        """Inverse of ``to_json``; raises QI2Error that names the key that is missing, of a wrong type, unknown, or points nowhere."""
        try:
            values = json.loads(text)
            json.dumps(values, ensure_ascii=False).encode()  # half a surrogate pair is JSON, but no file can hold it
        except (ValueError, RecursionError) as error:
            raise QI2Error(f"not JSON: {error}; a structured caption is one JSON object") from error
        top = _object(values, "the caption", ("entities",), ("scene", "texts", "relations"))
        entities = [_entity(item, f"entities[{i}]") for i, item in enumerate(_list(top["entities"], "entities"))]
        texts = [_text(item, f"texts[{i}]") for i, item in enumerate(_list(top.get("texts", []), "texts"))]
        ids = _unique_ids([*entities, *texts])
        relations = [_relation(item, f"relations[{i}]", ids) for i, item in enumerate(_list(top.get("relations", []), "relations"))]
        return Structured(_strings(top.get("scene", {}), "scene"), tuple(entities), tuple(texts), tuple(relations))


def _plain(item: Thing | Relation) -> dict[str, Any]:
    values = {name: value for name, value in vars(item).items() if value is not None}
    if isinstance(item, Entity):
        values["attributes"] = dict(sorted(item.attributes.items()))
    return values


def _entity(value: Any, where: str) -> Entity:
    found = _object(value, where, ("id", "name"), ("attributes", "box"))
    attributes = _strings(found.get("attributes", {}), f"{where}.attributes")
    return Entity(_string(found, "id", where), _string(found, "name", where), attributes, _box(found.get("box"), f"{where}.box"))


def _text(value: Any, where: str) -> Text:
    found = _object(value, where, ("id", "text"), ("role", "box"))
    role = _string(found, "role", where) if found.get("role") else ""
    return Text(_string(found, "id", where), _string(found, "text", where), role, _box(found.get("box"), f"{where}.box"))


def _relation(value: Any, where: str, ids: set[str]) -> Relation:
    found = _object(value, where, ("subject", "relation", "object"), ())
    relation = Relation(*(_string(found, key, where) for key in ("subject", "relation", "object")))
    for key in ("subject", "object"):
        if getattr(relation, key) not in ids:
            raise QI2Error(f"{where}.{key} is {getattr(relation, key)!r}, which is no id; name an entity or a text")
    return relation


def _unique_ids(items: list[Thing]) -> set[str]:
    ids: set[str] = set()
    for item in items:
        if item.id in ids:
            raise QI2Error(f"the id {item.id!r} stands twice; give every entity and text its own")
        ids.add(item.id)
    return ids


def _object(value: Any, where: str, needed: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise QI2Error(f"{where} is {_kind(value)}; it must be an object")
    if missing := [key for key in needed if key not in value]:
        raise QI2Error(f"{where} has no key {missing[0]!r}; it needs {', '.join(needed)}")
    if unknown := sorted(set(value) - {*needed, *optional}):
        raise QI2Error(f"{where} has the unknown key {unknown[0]!r}; known are {', '.join((*needed, *optional))}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise QI2Error(f"{where} is {_kind(value)}; it must be a list")
    return value


def _string(values: dict[str, Any], key: str, where: str) -> str:
    value = values[key]
    if not isinstance(value, str) or not value.strip():
        raise QI2Error(f"{where}.{key} is {_kind(value)}; it must be a string that is not empty")
    return value


def _strings(value: Any, where: str) -> dict[str, str]:
    """An object of strings; numbers, truth values and lists of strings are written out, because models give them."""
    found = {}
    for key, item in _object(value, where, (), tuple(value) if isinstance(value, dict) else ()).items():
        if isinstance(item, list) and all(isinstance(one, str) for one in item):
            item = ", ".join(item)
        if not isinstance(item, str | int | float):
            raise QI2Error(f"{where}.{key} is {_kind(item)}; it must be a string")
        found[key] = str(item).lower() if isinstance(item, bool) else str(item)
    return found


def _box(value: Any, where: str) -> Box | None:
    """Fractions of the sides; a box with any number above 1 is taken to be in thousandths, as Qwen3-VL gives them."""
    if value is None:
        return None
    numbers = [one for one in _list(value, where) if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(numbers) != 4 or len(value) != 4:
        raise QI2Error(f"{where} is {value!r}; it must be four numbers: left, top, right, bottom")
    largest = THOUSANDTHS if max(numbers) > 1 else 1
    left, top, right, bottom = numbers
    if not (0 <= left < right <= largest and 0 <= top < bottom <= largest):
        raise QI2Error(f"{where} is {value!r}; left < right and top < bottom must hold, all from 0 to 1 or all from 0 to {THOUSANDTHS}")
    return left / largest, top / largest, right / largest, bottom / largest


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "a string", type(None): "null"}.get(type(value), repr(value)) if value != "" else "an empty string"
