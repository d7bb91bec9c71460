"""Every lower-case word that captions and instructions of the world use; rendered words are made of single capital letters."""

import re

from qi2.data.world import captions, edits, more_edits
from qi2.data.world.palette import BACKGROUNDS, COLORS, EXPRESSIONS, HAIR, NUMBERS, OUTLINE, RELATIONS, SHAPES, SKIN, place


def _words() -> set[str]:
    templates = [text for name, group in vars(captions).items() if name.isupper() and isinstance(group, tuple) for text in group]
    templates += [text for group in (edits.PHRASES | more_edits.MORE_PHRASES).values() for text in group]
    templates += ["none ; no glasses the line and the lines", *(f"{shape}s" for shape in SHAPES), *captions.TEXTURED.values(), OUTLINE]
    templates += [*captions.DAMAGED.values(), *more_edits.FLAWS.values()]
    values = [*SHAPES, *COLORS, *BACKGROUNDS, *NUMBERS.values(), *RELATIONS, *HAIR, *SKIN, *EXPRESSIONS]
    places = [place(row, col, (3, 3)) for row in range(3) for col in range(3)] + [place(1, 1, (2, 2))]
    plain = re.sub(r"\{\w+\}", " ", " ".join([*templates, *values, *places]))
    return set(re.findall(r"[a-z]+", plain)) - {"s"}


VOCABULARY: tuple[str, ...] = tuple(sorted(_words()))
