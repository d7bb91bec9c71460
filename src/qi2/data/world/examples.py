"""The world's rows for ingest: a plan without repeated pictures, and the files and captions of each planned item.

The plan is a pure function of config and seed and is cheap; drawing and encoding an item depends on nothing else, so that items may be
made in any process.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from qi2.core.errors import QI2Error
from qi2.core.rng import numpy_rng
from qi2.data.config import DataConfig
from qi2.data.shards import Row, region_json
from qi2.data.world.captions import captions
from qi2.data.world.defects import COPIES, DEFECTS, encode_png, make_defect
from qi2.data.world.edits import ALL_EDIT_KINDS, EDIT_KINDS, Edit, instructions, sample_edit
from qi2.data.world.render import render
from qi2.data.world.sample import choose, sample_scene
from qi2.data.world.scene import KINDS, RICH_KINDS, TINY_KINDS, Scene

MISSES = 300  # draws in a row that were all seen before: the kind has no further picture
Rng = np.random.Generator
T = TypeVar("T")


@dataclass(frozen=True)
class Item:
    """One planned row (an edit becomes several rows): its id, what it shows, at which size, and the defect it has, if any."""

    id: str
    subject: Scene | Edit
    size: int
    split: str = "train"
    defect: str = ""


def plan(data: DataConfig, seed: int) -> list[Item]:
    """All items of the world in a fixed random order; no two T2I pictures are the same, except for planned copies."""
    rng = numpy_rng(seed, "world-plan")
    pictures = _Pictures(rng)
    scenes = [(scene, data.image_size) for scene in pictures.mixed(data.world_mix, data.world_images)]
    scenes += pictures.in_turn(RICH_KINDS, data.rich_images, data, "train")
    held = pictures.in_turn(KINDS, data.heldout_images, data, "heldout")
    edits = [("train", edit) for edit in _edits(rng, data.edit_mix, data.edit_pairs, "train")]
    kinds = dict.fromkeys([*EDIT_KINDS, *(kind for kind, weight in data.edit_mix.items() if weight > 0)], 1.0)
    edits += [("heldout", edit) for edit in _edits(rng, kinds, data.heldout_edits, "heldout")]
    items = [Item(f"world-{i:06d}", scene, size) for i, (scene, size) in enumerate(scenes)]
    items += _defects(pictures, rng, data, items)
    items += [Item(f"heldout-{i:06d}", scene, size, "heldout") for i, (scene, size) in enumerate(held)]
    items += [Item(f"edit-{i:06d}", edit, data.image_size, split) for i, (split, edit) in enumerate(edits)]
    return [items[int(i)] for i in rng.permutation(len(items))]


def make_rows(item: Item, seed: int, n_captions: int) -> Iterator[Row]:
    """Draw, encode and caption one item."""
    rng = numpy_rng(seed, f"world-row-{item.id}")
    if isinstance(item.subject, Edit):
        yield from _edit_rows(item, item.subject, rng, n_captions)
    elif item.defect:
        bad = make_defect(item.defect, item.subject, rng, item.size, n_captions)
        scene = bad.scene.to_json() if bad.scene else None
        yield Row(item.id, bad.data, bad.extension, bad.captions, "defect", kind=f"defect_{item.defect}", scene=scene)
    else:
        data, texts = encode_png(render(item.subject, item.size)), tuple(captions(item.subject, rng, n_captions))
        yield Row(item.id, data, "png", texts, kind=item.subject.kind, split=item.split, scene=item.subject.to_json())


def _edit_rows(item: Item, edit: Edit, rng: Rng, n_captions: int) -> Iterator[Row]:
    references = tuple(f"{item.id}-ref{i}" for i in range(len(edit.references)))
    for name, scene in zip(references, edit.references, strict=True):
        texts = tuple(captions(scene, rng, n_captions))
        data = encode_png(render(scene, item.size))
        yield Row(name, data, "png", texts, task="reference", kind="reference", split=item.split, scene=scene.to_json())
    data = encode_png(render(edit.target, item.size))
    texts = tuple(instructions(edit, rng, n_captions))
    yield Row(
        item.id,
        data,
        "png",
        texts,
        task="ti2i",
        kind=edit.kind,
        references=references,
        region=region_json(edit.region),
        split=item.split,
        scene=edit.target.to_json(),
        edit=edit.to_json(),
        caption_kind="instruction",
    )


class _Pictures:
    """Draws scenes whose pictures have not been drawn before."""

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self._seen: set[tuple[object, ...]] = set()

    def new(self, kind: str, split: str) -> Scene | None:
        """A scene that looks like none before, or None when the kind seems to have no further one."""
        for _ in range(MISSES):
            scene = sample_scene(self.rng, kind, split)
            look = (scene.background, scene.texture, frozenset(scene.objects), scene.words, scene.portrait, scene.layout)
            if look not in self._seen:
                self._seen.add(look)
                return scene
        return None

    def mixed(self, mix: Mapping[str, float], n: int) -> list[Scene]:
        """``n`` training scenes with kinds drawn by weight; exhausted kinds leave their share to the others."""
        return _draw_mixed(self.rng, mix, n, TINY_KINDS, "data.world_mix", lambda kind: self.new(kind, "train"))

    def in_turn(self, kinds: Sequence[str], n: int, data: DataConfig, split: str) -> list[tuple[Scene, int]]:
        """Up to ``n`` scenes with their sizes, kind after kind."""
        drawn: list[tuple[Scene, int]] = []
        for index in range(n):
            kind = kinds[index % len(kinds)]
            scene = self.new(kind, split)
            if scene is not None:
                drawn.append((scene, choose(self.rng, data.rich_sizes) if kind in RICH_KINDS else data.image_size))
        return drawn


def _edits(rng: Rng, mix: Mapping[str, float], n: int, split: str) -> list[Edit]:
    seen: set[tuple[tuple[Scene, ...], Scene]] = set()

    def new(kind: str) -> Edit | None:
        for _ in range(MISSES):
            edit = sample_edit(rng, kind, split)
            if (edit.references, edit.target) not in seen:
                seen.add((edit.references, edit.target))
                return edit
        return None

    return _draw_mixed(rng, mix, n, ALL_EDIT_KINDS, "data.edit_mix", new)


def _draw_mixed(rng: Rng, mix: Mapping[str, float], n: int, known: Sequence[str], name: str, new: Callable[[str], T | None]) -> list[T]:
    if unknown := set(mix) - set(known):
        raise QI2Error(f"{name} has unknown kinds {sorted(unknown)}; kinds are {', '.join(known)}")
    weights = {kind: float(weight) for kind, weight in mix.items() if weight > 0}
    drawn: list[T] = []
    while len(drawn) < n and weights:
        kinds = list(weights)
        shares = np.array([weights[kind] for kind in kinds])
        kind = kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))]
        item = new(kind)
        if item is None:
            del weights[kind]
        else:
            drawn.append(item)
    return drawn


def _defects(pictures: _Pictures, rng: Rng, data: DataConfig, items: Sequence[Item]) -> list[Item]:
    """Defects in turn; copies are of planned items, all others show scenes of their own. Their ids sort after those of the items."""
    whole = [item for item in items if item.size == data.image_size]
    made: list[Item] = []
    for index in range(round(data.defect_share * len(items))):
        name = DEFECTS[index % len(DEFECTS)]
        scene = choose(rng, whole).subject if name in COPIES else pictures.new(choose(rng, ("two", "text", "relation")), "train")
        if isinstance(scene, Scene):
            made.append(Item(f"world-{len(items) + index:06d}", scene, data.image_size, defect=name))
    return made
