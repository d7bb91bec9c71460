"""Nothing of a held-out set gets into training, however it is disguised, and what is not held out is not refused."""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data as photographs

from qi2.core.pictures import Pictures
from qi2.core.rng import numpy_rng
from qi2.data.shards import Row, ShardWriter
from qi2.data.world.captions import all_captions, captions
from qi2.data.world.defects import encode_png
from qi2.data.world.edits import sample_edit
from qi2.data.world.render import render
from qi2.flywheel.retrieval.leaks import HeldOut
from tests.flywheel.retrieval_world import row, scenes


@dataclass(frozen=True)
class Sample:
    """What leaks checks."""

    id: str
    target: str
    prompt: str = "something new"
    task: str = "t2i"
    references: tuple[str, ...] = ()
    truth: str = ""


def _photo(name: str, side: int = 192) -> Image.Image:
    return Image.fromarray(np.asarray(getattr(photographs, name)())).convert("RGB").resize((side, side))


def _jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=70)
    return Image.open(buffer)


def _cropped(image: Image.Image, share: float = 0.04) -> Image.Image:
    edge = round(image.width * share)
    return image.crop((edge, edge, image.width - edge, image.height - edge))


HELD = scenes(8, "leaks", lambda scene: True, "heldout")


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> HeldOut:
    runs = tmp_path_factory.mktemp("leaks")
    with ShardWriter(runs / "raw") as writer:
        for i, scene in enumerate(HELD):
            writer.add(row(f"held-{i}", scene, "heldout"))
        for name in ("astronaut", "coffee"):
            writer.add(Row(name, encode_png(_photo(name)), "png", (f"a photo of {name}, in colour",), "photo", split="heldout"))
        writer.add(row("train-0", scenes(1, "train", lambda scene: True)[0]))
    return HeldOut.open(runs)


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    return Pictures(tmp_path)


@pytest.mark.parametrize("disguise", ["exact", "encoded", "larger", "smaller", "cropped"])
@pytest.mark.parametrize("kind", ["drawing", "photograph"])
def test_a_held_out_picture_is_refused_in_every_disguise(held: HeldOut, pictures: Pictures, disguise: str, kind: str) -> None:
    image = render(HELD[0], 64) if kind == "drawing" else _photo("astronaut")
    ways = {"exact": lambda x: x, "encoded": _jpeg, "larger": lambda x: x.resize((150, 150)), "smaller": lambda x: x.resize((48, 48)), "cropped": _cropped}
    found = held.check([Sample("x", pictures.keep(ways[disguise](image)))], pictures.read)
    assert found and "picture" in found[0].reasons[0]
    assert ("pixels" in found[0].reasons[0]) == (disguise == "exact")


def test_a_leaked_base_picture_of_an_edit_is_refused(held: HeldOut, pictures: Pictures) -> None:
    new = scenes(1, "new", lambda scene: True)[0]
    one = Sample("x", pictures.keep(render(new, 64)), "make it blue", "ti2i", (pictures.keep(render(HELD[1], 64)),))
    assert held.check([one], pictures.read)[0].reasons == ("its picture has the pixels of held-1",)


def test_a_held_out_prompt_is_refused_whatever_its_case_punctuation_or_order(held: HeldOut, pictures: Pictures) -> None:
    target = pictures.keep(_photo("rocket"))
    for prompt in ("A photo of COFFEE - in colour!", "in colour, a photo of coffee", "the photo of coffee in a colour"):
        assert held.check([Sample("x", target, prompt)], pictures.read), prompt
    assert not held.check([Sample("x", target, "a photo of tea, in colour")], pictures.read)


def test_a_paraphrase_with_the_same_scene_is_refused(held: HeldOut, pictures: Pictures) -> None:
    known = set(captions(HELD[2], numpy_rng(0, "held-2"), 2))
    other = next(text for text in all_captions(HELD[2]) if text not in known)
    blank = pictures.keep(_photo("rocket"))
    reasons = held.check([Sample("x", blank, other, truth=HELD[2].to_json())], pictures.read)[0].reasons
    assert "it shows the same scene as a held-out sample" in reasons


def test_a_held_out_combination_is_refused_by_scene_and_by_name(held: HeldOut, pictures: Pictures) -> None:
    blank = pictures.keep(_photo("rocket"))
    fresh = scenes(1, "fresh", lambda scene: scene not in HELD, "heldout")[0]
    assert "the split holds out" in held.check([Sample("x", blank, truth=fresh.to_json())], pictures.read)[0].reasons[0]
    assert "red star" in held.check([Sample("x", blank, "two red stars on white")], pictures.read)[0].reasons[0]
    edit = sample_edit(numpy_rng(0, "leak"), "recolor", "heldout")
    assert held.check([Sample("x", blank, "paint it", "ti2i", truth=edit.to_json())], pictures.read)


def test_new_training_scenes_and_photographs_are_not_refused(held: HeldOut, pictures: Pictures) -> None:
    fresh = scenes(60, "fine", lambda scene: True)
    samples = [Sample(f"s{i}", pictures.keep(render(s, 64)), captions(s, numpy_rng(1, "fine", i), 1)[0], truth=s.to_json()) for i, s in enumerate(fresh)]
    samples += [Sample(name, pictures.keep(_photo(name)), f"a {name} in front of us") for name in ("rocket", "chelsea")]
    assert held.check(samples, pictures.read) == []


def test_a_run_without_raw_rows_still_holds_out_its_evaluation(tmp_path: Path) -> None:
    (tmp_path / "evaluate").mkdir()
    (tmp_path / "evaluate" / "results.json").write_text(json.dumps({"t2i": {"items": [{"prompt": "a thing"}]}}))
    assert HeldOut.open(tmp_path).of_text("t2i", "A thing!", False)
