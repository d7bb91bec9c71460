"""What training never sees: colour-shape combinations, words, and features of faces that only held-out prompts use.

Every colour, shape, letter (at either place), hair and skin tone still occurs in training, so that a held-out prompt asks for a new
combination of known parts.
"""

from qi2.data.world.palette import ALPHABET, LAYOUT_WORDS
from qi2.data.world.scene import Scene

HELDOUT_COMBOS = frozenset({("red", "star"), ("yellow", "square"), ("green", "circle"), ("blue", "triangle")})
HELDOUT_WORDS = frozenset(
    ALPHABET[first] + ALPHABET[(first + shift) % len(ALPHABET)] for shift, count in ((3, len(ALPHABET)), (8, 8)) for first in range(count)
)
HELDOUT_LAYOUT_WORDS = frozenset(LAYOUT_WORDS[::6])
HELDOUT_FACES = frozenset({("black", "light"), ("blond", "dark")})


def is_heldout(scene: Scene) -> bool:
    """Whether the scene shows anything that training never sees."""
    if any(item.combo in HELDOUT_COMBOS for item in scene.objects) or any(word.text in HELDOUT_WORDS for word in scene.words):
        return True
    if scene.portrait and (scene.portrait.hair, scene.portrait.skin) in HELDOUT_FACES:
        return True
    return scene.layout is not None and not HELDOUT_LAYOUT_WORDS.isdisjoint((scene.layout.title, *scene.layout.lines))
