"""A small run for the tests of retrieval: raw shards of the world with a withheld combination, an opt-out, and an untrained CLIP."""

from collections.abc import Callable
from pathlib import Path

from qi2.core.rng import numpy_rng
from qi2.data.shards import Row, ShardWriter
from qi2.data.world.captions import captions
from qi2.data.world.defects import encode_png
from qi2.data.world.edits import sample_edit
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import Scene

WITHHELD = ("blue", "star")


def shows(scene: Scene, combo: tuple[str, str] = WITHHELD) -> bool:
    """Whether the combination is in the scene."""
    return any(item.combo == combo for item in scene.objects)


def scenes(n: int, purpose: str, wanted: Callable[[Scene], bool], split: str = "train") -> list[Scene]:
    """``n`` scenes of one, two or related objects that fulfil a condition."""
    draw, found = numpy_rng(0, purpose), []
    while len(found) < n:
        scene = sample_scene(draw, ("one", "two", "relation")[len(found) % 3], split)
        if wanted(scene) and scene not in found:
            found.append(scene)
    return found


def row(name: str, scene: Scene, split: str = "train", **more: object) -> Row:
    """A T2I row."""
    texts = tuple(captions(scene, numpy_rng(0, name), 2))
    return Row(name, encode_png(render(scene, 64)), "png", texts, kind=scene.kind, split=split, scene=scene.to_json(), **more)  # type: ignore[arg-type]


def make_raw(folder: Path, n: int = 300) -> None:
    """``n`` training rows without the withheld combination, ten edits, an opt-out and ten held-out rows."""
    with ShardWriter(folder) as writer:
        for i, scene in enumerate(scenes(n, "raw", lambda scene: not shows(scene))):
            writer.add(row(f"world-{i}", scene))
        for i in range(10):
            edit = sample_edit(numpy_rng(0, "edit", i), "recolor")
            names = (f"edit-{i}-ref0",)
            writer.add(Row(names[0], encode_png(render(edit.references[0], 64)), "png", (), task="reference", kind="reference"))
            data = encode_png(render(edit.target, 64))
            writer.add(Row(f"edit-{i}", data, "png", (edit.instruction,), task="ti2i", kind="recolor", references=names, edit=edit.to_json()))
        writer.add(row("mine", scenes(1, "mine", shows)[0], opt_out=True))
        for i, scene in enumerate(scenes(10, "held", lambda scene: True, "heldout")):
            writer.add(row(f"held-{i}", scene, "heldout"))


def make_clip(folder: Path, work: Path) -> None:
    """An untrained CLIP with a tokenizer of its own."""
    import torch

    from qi2.standins.clip import build_clip, clip_tokenizer, save_clip
    from qi2.standins.config import VLMConfig
    from qi2.standins.filters_config import ClipConfig
    from qi2.standins.vlm import build_vlm, save_vlm

    torch.manual_seed(0)
    config = ClipConfig(width=32, layers=1, heads=2, projection=16)
    save_vlm(build_vlm(VLMConfig(vocabulary=300, width=32, layers=1, heads=2, vision_layers=1), ["a red circle on white", "blue star"]), work)
    tokenizer = clip_tokenizer(str(work), config.max_tokens)
    save_clip(build_clip(config, tokenizer), tokenizer, config, folder)
