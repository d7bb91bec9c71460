"""What SFT does not read, so that RL has something to learn.

On prompts whose combinations SFT has read, its rewrites are nearly always right, and groups of equal rewards teach nothing. A user's prompt, however, may
combine what no annotation does. So a share of the training annotations' own combinations is kept from SFT and asked for in RL. What the world holds out for
its evaluation is no training annotation, and in neither.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from qi2.core import rng
from qi2.data.world.palette import COLORS, SHAPES
from qi2.enhancer.triplets import Annotation

COMBINATION = re.compile(rf"\b({'|'.join(COLORS)}) ({'|'.join(SHAPES)})s?\b")
Combination = tuple[str, str]


def named(text: str) -> set[Combination]:
    """The (colour, shape) combinations that a caption or an instruction names."""
    return {(found[1], found[2]) for found in COMBINATION.finditer(text)}


def reserved_combinations(known: Iterable[Combination], share: float, seed: int) -> frozenset[Combination]:
    """A share of the known combinations, spread over colours and shapes; each of these stays in one that is not reserved, if it can."""
    pool = sorted(set(known))
    order = [pool[int(i)] for i in rng.numpy_rng(seed, "enhancer/reserve").permutation(len(pool))]
    taken, left = Counter[str](), Counter(part for pair in pool for part in pair)
    chosen: set[Combination] = set()
    while len(chosen) < round(share * len(pool)):
        pair = min((p for p in order if p not in chosen), key=lambda p: (min(left[part] - taken[part] for part in p) < 2, sum(taken[part] for part in p)))
        chosen.add(pair)
        taken.update(pair)
    return frozenset(chosen)


def divide(found: Sequence[Annotation], share: float, seed: int) -> tuple[list[Annotation], list[Annotation], Callable[[str], bool]]:
    """(annotations for SFT, those for RL, whether a prompt names a reserved combination).

    One that names no combination goes by its row, with all its captions, unless SFT reads the same words of another row.
    """
    combinations = reserved_combinations((pair for a in found for pair in named(a.fine)), share, seed)

    def reserved(text: str) -> bool:
        return not combinations.isdisjoint(named(text))

    def for_rl(a: Annotation) -> bool:
        return reserved(a.fine) if named(a.fine) else rng.numpy_rng(seed, f"enhancer/reserve/{a.id}").random() < share

    chosen = [for_rl(a) for a in found]
    learned = [a for a, rl in zip(found, chosen, strict=True) if not rl]
    read = {a.fine for a in learned}
    return learned, [a for a, rl in zip(found, chosen, strict=True) if rl and a.fine not in read], reserved
