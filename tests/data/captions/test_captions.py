"""Captions: exact where the scene is known, measured against it for anybody, checked, and never written twice."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from qi2.core.errors import QI2Error
from qi2.core.rng import numpy_rng
from qi2.data.captions.answers import INVALID, OK, REFUSED, check_prose, check_structured, check_text
from qi2.data.captions.captioner import Answer, QwenCaptioner, Request, TruthCaptioner
from qi2.data.captions.command import read_facts
from qi2.data.captions.config import CaptionConfig
from qi2.data.captions.evaluate import evaluate
from qi2.data.captions.run import caption
from qi2.data.captions.schemes import SCHEMES, Task, tasks_of
from qi2.data.captions.structured import Structured
from qi2.data.captions.words import known_languages
from qi2.data.shards import Row
from qi2.data.world.edits import sample_edit
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import KINDS, Scene
from tests.data.conftest import distinct_scenes, scene_row, write_raw

ALL = CaptionConfig(languages=known_languages())
FACTS = "It was drawn in Lisbon in 1998."


def _scenes() -> dict[str, Scene]:
    """20 of every kind."""
    return {f"{kind}{k}": sample_scene(numpy_rng(0, f"tests/captions/{kind}", k), kind, "any") for kind in KINDS for k in range(20)}


def _told(scenes: dict[str, Scene]) -> pd.DataFrame:
    """The exact captions of the scenes."""
    tasks = [task for group in tasks_of(ALL).values() for task in group]
    lines = [
        {"id": name, **vars(task), "caption": SCHEMES[task.scheme].truth(scene, task, FACTS), "status": OK} for name, scene in scenes.items() for task in tasks
    ]
    return pd.DataFrame(lines)


def test_exact_captions_are_measured_as_exact_in_every_language_and_of_every_kind() -> None:
    scenes = _scenes()
    figures = evaluate(_told(scenes), scenes, dict.fromkeys(scenes, FACTS))
    assert {name.split("/")[1] for name in figures if name.startswith("general")} == {"de", "en", "es", "fr", "ja", "zh"}
    perfect = {name: 0.0 if name.endswith(("/false", "/cer")) else 1.0 for name in figures}
    assert {name: figure.value for name, figure in figures.items()} == perfect


def test_captions_of_other_scenes_are_measured_as_wrong() -> None:
    scenes = _scenes()
    names = list(scenes)
    others = dict(zip(names, [*names[1:], names[0]], strict=True))
    figures = evaluate(_told(scenes), {name: scenes[others[name]] for name in names}, {})
    for name, figure in figures.items():
        assert figure.value > 0.4 if name.endswith(("/false", "/cer")) else figure.value < 0.8, (
            name
        )  # most pictures have no text, which is right for others too
        assert figure.low < figure.value < figure.high, name
    assert figures["structured/all/exact"].value < 0.05


def test_one_wrong_colour_costs_exactly_what_it_is_worth() -> None:
    scene = sample_scene(numpy_rng(0, "tests/captions/one"), "two", "any")
    wrong = replace(scene.objects[0], color=next(color for color in ("red", "blue", "green") if color not in {item.color for item in scene.objects}))
    told = _told({"a": scene.with_objects(wrong, *scene.objects[1:])})
    figures = evaluate(told, {"a": scene}, {})
    assert figures["structured/all/entities_recall"].value == 0.5
    assert figures["general/en/stated"].value == pytest.approx(2 / 3)  # the other object and the background


def test_answers_are_cleaned_or_refused_with_a_reason() -> None:
    assert check_prose('"A red circle."', 400).caption == "A red circle."
    assert check_prose("I’m sorry, but I can't help with that.", 400).status == REFUSED
    assert check_prose("a b c d e " * 30, 4000).reason.startswith("repeats")
    assert check_prose("", 400).reason == "empty"
    fenced = check_structured('```json\n{"entities": [{"id": "e1", "name": "cat", "attributes": {"tame": true}}]}\n```')
    assert Structured.from_json(fenced.caption).entities[0].attributes == {"tame": "true"}
    dangling = '{"entities": [{"id": "e1", "name": "cat"}], "relations": [{"subject": "e1", "relation": "on", "object": "e2"}]}'
    assert "relations[0].object is 'e2'" in check_structured(dangling).reason
    assert check_text('layout: a sign\n1. word, top: "STOP"').status == OK
    assert check_text("a sign that says stop").status == INVALID


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Six pictures with scenes, one that cannot be read, one that opted out, and one whose scene has no words."""
    rows = [scene_row(f"w{k}", scene) for k, scene in enumerate(distinct_scenes(6))]
    outline = sample_edit(numpy_rng(0, "tests/captions/outline"), "outline").target
    rows += [Row("bad", b"no picture", "png", ("a caption",), "user"), replace(rows[0], id="out", opt_out=True), scene_row("outlined", outline)]
    return write_raw(tmp_path / "raw", rows)


class Stubborn:
    """The exact captioner, which refuses the first time that it is asked about ``w1``, and is killed after so many batches."""

    identity, reads_pictures = "stubborn", True

    def __init__(self, batches: int = 99) -> None:
        self.left, self.asked = batches, 0

    def answer(self, requests: Sequence[Request], seed: int | None = None) -> list[Answer]:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= seed is None
        self.asked += 1
        exact = {item.id: TruthCaptioner().answer([item])[0] for item in requests if item.id.startswith("w")}
        if seed is None and "w1" in exact:
            exact["w1"] = Answer("I cannot assist with that request.")
        return [exact.get(item.id, Answer("x")) for item in requests]


def test_every_row_is_accounted_for_and_refusals_are_asked_again(raw: Path, tmp_path: Path) -> None:
    config = CaptionConfig(schemes=["general", "structured"], lengths=["short"], batch_size=2)
    counts = caption(raw, Stubborn(), config, tmp_path / "out")
    for scheme in config.schemes:
        told = {name.rsplit("/", 1)[1]: count for name, count in counts.items() if name.startswith(f"captions/{scheme}/")}
        assert told["in"] == told["ok"] + told["refused"] + told["invalid"] + told["unreadable"] == 8
        assert told["unreadable"] == 1
    table = pd.read_parquet(tmp_path / "out" / "captions.parquet").set_index("id")
    assert "out" not in table.index
    assert table.loc["w1", "attempts"].tolist() == [2, 2] and set(table.loc["w1", "status"]) == {OK}
    none = caption(raw, Stubborn(), replace(config, retries=0), tmp_path / "once")
    assert none["captions/general/refused"] == 1


def test_a_killed_run_goes_on_after_its_last_whole_batch(raw: Path, tmp_path: Path) -> None:
    config = CaptionConfig(schemes=["general"], lengths=["short", "long"], batch_size=2, retries=1)
    whole, killed, resumed = Stubborn(), Stubborn(batches=5), Stubborn()
    caption(raw, whole, config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        caption(raw, killed, config, tmp_path / "parts")
    assert not (tmp_path / "parts").exists()
    torn = sorted((tmp_path / ".parts.work").rglob("part-*.jsonl"))[1]
    torn.write_bytes(torn.read_bytes()[:-9])
    caption(raw, resumed, config, tmp_path / "parts")
    pd.testing.assert_frame_equal(*(pd.read_parquet(tmp_path / name / "captions.parquet") for name in ("whole", "parts")))
    assert resumed.asked < whole.asked


@pytest.fixture(scope="module")
def tiny_qwen(small_world, tmp_path_factory: pytest.TempPathFactory) -> Path:  # type: ignore[no-untyped-def]
    """A Qwen3-VL with random weights, as `save_pretrained` leaves it."""
    return Path(small_world.vlm)


def _shake(model: torch.nn.Module) -> None:
    """Larger random weights: with those of a new model every answer is the same."""
    draw = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight.requires_grad_(False), std=0.4, generator=draw)


def test_a_batch_answers_as_its_requests_do_alone(tiny_qwen: Path) -> None:
    config = CaptionConfig(path=str(tiny_qwen), max_tokens=12, max_pixels=128 * 128)
    captioner = QwenCaptioner.load(tiny_qwen, config)
    _shake(captioner.model.float())
    pictures = [render(scene, size) for scene, size in zip(distinct_scenes(3), (64, 128, 96), strict=True)]
    prompts = ["describe the image", "what is there, and where is it, and which colour has it", "text"]
    requests = [Request(str(k), Task("text"), prompt, image=image) for k, (prompt, image) in enumerate(zip(prompts, pictures, strict=True))]
    together = captioner.answer(requests)
    assert together == [captioner.answer([request])[0] for request in requests]
    assert len({answer.text for answer in together}) > 1
    assert captioner.answer(requests[:1], seed=3) == captioner.answer(requests[:1], seed=3)


def test_captions_of_a_real_model_are_counted_and_measured(tiny_qwen: Path, raw: Path, tmp_path: Path) -> None:
    config = CaptionConfig(path=str(tiny_qwen), schemes=["general", "structured"], lengths=["short"], max_tokens=6, retries=0, batch_size=4)
    counts = caption(raw, QwenCaptioner.load(tiny_qwen, config), config, tmp_path / "out", measure=True)
    assert counts["captions/structured/invalid"] == 7  # six random tokens are no JSON
    assert (tmp_path / "out" / "evaluation.json").exists()


def test_what_cannot_be_captioned_is_an_error_that_says_so(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(QI2Error, match="captions.languages is xx; choose from en"):
        caption(raw, TruthCaptioner(), CaptionConfig(languages=["xx"]), tmp_path / "out")
    with pytest.raises(QI2Error, match="the world has no words in 'ko'"):
        caption(raw, TruthCaptioner(), CaptionConfig(languages=["ko"]), tmp_path / "out")
    with pytest.raises(QI2Error, match="captioner"):
        QwenCaptioner.load(tmp_path / "nothing", CaptionConfig())
    (tmp_path / "facts.jsonl").write_text('{"id": "w0"}\n')
    with pytest.raises(QI2Error, match="facts.jsonl, line 1"):
        read_facts(tmp_path / "facts.jsonl")
