"""Reads the facts that a caption of anybody states, by the words of its language (``languages/``); the inverse of ``truth.general``.

Only the world's own vocabulary is read: what a caption says beyond it is neither credited nor blamed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from qi2.data.captions.facts import Fact, relation
from qi2.data.captions.words import Words, words

_WORD = re.compile(r"(?<![A-Za-z])[A-Z]{2,}(?![A-Za-z])")
_OBJECT, _RELATION = "⟦o{}⟧", "⟦r{}⟧"
Forms = dict[str, list[str]]


def stated(caption: str, language: str) -> set[Fact]:
    """The facts (see ``facts``) that the caption states; raises QI2Error for a language without words."""
    reader = _reader(language)
    text = caption.replace("’", "'")
    marked, objects, found = reader.objects(text)
    found |= reader.relations(marked, objects)
    found |= {("word", word) for word in _WORD.findall(text)}
    return found | set(reader.attributes(text))


@dataclass(frozen=True)
class _Reader:
    """The compiled patterns of one language."""

    table: Words

    def objects(self, text: str) -> tuple[str, list[tuple[str, str]], set[Fact]]:
        """The text with objects replaced by marks, the objects (colour, shape) in the order of the marks, and the facts on them."""
        objects: list[tuple[str, str]] = []
        found: set[Fact] = set()
        colors, shapes, numbers = (self.forms(kind) for kind in ("colors", "shapes", "numbers"))

        def mark(match: re.Match[str]) -> str:
            combo = (self.value(colors, match["c"]), self.value(shapes, match["s"]))
            found.add(("object", *combo))
            before = match.string[: match.start()].rstrip(" ")
            if number := re.search(self.fill(self.table["read"]["count"], n=numbers), before, re.IGNORECASE):
                found.add(("count", *combo, self.value(numbers, number["n"])))
            objects.append(combo)
            return _OBJECT.format(len(objects) - 1)

        for pattern in self.table["read"]["mention"]:
            text = re.sub(self.fill(pattern, c=colors, s=shapes), mark, text, flags=re.IGNORECASE)
        return text, objects, found

    def relations(self, marked: str, objects: list[tuple[str, str]]) -> set[Fact]:
        """Relations between marked objects."""
        forms = self.forms("relations")
        names = list(forms)
        text = re.sub(self.fill("{r}", r=forms), lambda match: _RELATION.format(names.index(self.value(forms, match["r"]))), marked, flags=re.IGNORECASE)
        found = set()
        for pattern in self.table["read"]["relation"]:
            slots = {"A": r"⟦o(?P<a>\d+)⟧", "B": r"⟦o(?P<b>\d+)⟧", "R": r"⟦r(?P<r>\d+)⟧"}
            whole = re.sub("[ABR]", lambda match, slots=slots: slots[match[0]], pattern)  # type: ignore[misc]
            found |= {relation(objects[int(m["a"])], names[int(m["r"])], objects[int(m["b"])]) for m in re.finditer(whole, text)}
        return found

    def attributes(self, text: str) -> Iterator[Fact]:
        """Background, texture, and what a face has."""
        read, colors, backgrounds = self.table["read"], self.forms("colors"), self.forms("backgrounds")
        for pattern in read["ground"]:
            any_color = colors | backgrounds
            yield from (("background", value) for value in self.values(text, pattern, "g", any_color, backgrounds))
        for kind, forms in (("hair", self.forms("hair")), ("skin", self.forms("skin")), ("shirt", colors)):
            yield from ((kind, value) for pattern in read[kind] for value in self.values(text, pattern, "v", forms, forms))
        textures = {name: read["also"][name] for name in self.table["textures"] if name != "plain"}
        yield from (("texture", value) for value in self.values(text, "{v}", "v", textures, textures))
        expressions = self.forms("expressions")
        yield from (("expression", value) for value in self.values(text, "{v}", "v", expressions, expressions))
        if re.search(read["no_glasses"], text, re.IGNORECASE):
            yield ("glasses", "no")
        elif re.search(read["glasses"], text, re.IGNORECASE):
            yield ("glasses", "yes")

    def values(self, text: str, pattern: str, slot: str, forms: Forms, backgrounds: Forms) -> Iterator[str]:
        """The values that stand in the slot wherever the pattern is found; ``{b}`` is the slot with backgrounds alone."""
        chosen = backgrounds if "{b}" in pattern else forms
        for match in re.finditer(self.fill(pattern.replace("{b}", f"{{{slot}}}"), **{slot: chosen}), text, re.IGNORECASE):
            yield self.value(chosen, match[slot])

    def forms(self, kind: str) -> Forms:
        """Value to its forms as regular expressions."""
        also, known = self.table["read"]["also"], {}
        for value, form in self.table[kind].items():
            own = [form] if isinstance(form, str) else form[:2] if kind == "shapes" else form
            known[value] = [*(re.escape(one) for one in own), *also.get(value, []), *([value] if kind == "numbers" else [])]
        return known

    def fill(self, pattern: str, **slots: Forms) -> str:
        """The pattern with every ``{slot}`` replaced by a group of all forms, longest first."""
        for name, forms in slots.items():
            choices = "|".join(sorted({form for group in forms.values() for form in group}, key=len, reverse=True))
            edge = (r"(?<!\w)", r"(?!\w)") if self.table["read"]["edges"] else ("", "")
            pattern = pattern.replace(f"{{{name}}}", f"{edge[0]}(?P<{name}>{choices}){edge[1]}")
        return pattern

    def value(self, forms: Forms, text: str) -> str:
        """Which value the text is a form of; lookaheads of a form have been checked where it was found."""
        return next(value for value, group in forms.items() if any(re.fullmatch(form, text, re.IGNORECASE) for form in group))


@lru_cache
def _reader(language: str) -> _Reader:
    return _Reader(words(language))
