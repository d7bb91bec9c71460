"""What a model answers becomes a caption only when it passes its scheme's check, and the reason names what is wrong."""

import json
import re
from pathlib import Path

import pytest

from qi2.core.errors import QI2Error
from qi2.data.captions.config import CaptionConfig
from qi2.data.captions.prompts import fill, load_templates
from qi2.data.captions.schemes import SCHEMES, Task, tasks_of
from qi2.data.captions.structured import Structured

GENERAL, TEXT, STRUCTURED = Task("general", language="en", length="short"), Task("text", "plain"), Task("structured")
GRAPH = {
    "scene": {"background": "white"},
    "entities": [{"id": "e1", "name": "box", "attributes": {"color": "red"}, "box": [0, 0, 0.5, 1]}],
    "texts": [{"id": "t1", "text": "Start", "role": "label"}],
    "relations": [{"subject": "t1", "relation": "part of", "object": "e1"}],
}


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        ("A cat.", "ok", ""),
        ("  ", "invalid", "empty"),
        ("I’m sorry, I can't help with that.", "refused", "sorry"),
        ("很抱歉，我无法描述这张图片。", "refused", "抱歉"),
        ("a cat " * 100, "invalid", "too long"),
        ("A cat on a mat. " * 9, "invalid", "repeats"),
    ],
)
def test_prose_is_kept_unless_empty_refusing_long_or_looping(answer: str, status: str, reason: str) -> None:
    checked = SCHEMES["general"].check(answer, GENERAL)
    assert checked.status == status and reason in checked.reason
    assert checked.caption == ("A cat." if status == "ok" else "")


def test_thoughts_quotes_and_fences_are_taken_off() -> None:
    assert SCHEMES["general"].check('<think>a dog?</think>\n"A cat."', GENERAL).caption == "A cat."
    fenced = f"```json\n{json.dumps(GRAPH, indent=2)}\n```"
    assert SCHEMES["structured"].check(f"Here is the JSON:\n{fenced}\nAnything else?", STRUCTURED) == SCHEMES["structured"].check(fenced, STRUCTURED)
    assert SCHEMES["structured"].check(fenced, STRUCTURED).caption == json.dumps(GRAPH).replace("[0, 0, 0.5, 1]", "[0.0, 0.0, 0.5, 1.0]")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"entities": None}, r"entities is null; it must be a list"),
        ({"entities": [{"id": "e1"}]}, r"entities\[0\] has no key 'name'"),
        ({"entities": [{"id": "e1", "name": "box", "size": 1}]}, r"entities\[0\] has the unknown key 'size'"),
        ({"entities": [{"id": "e1", "name": "box", "box": [0.5, 0, 0.2, 1]}]}, r"entities\[0\].box is .* left < right"),
        ({"entities": [{"id": "e1", "name": "box", "attributes": {"color": {}}}]}, r"entities\[0\].attributes.color is an object"),
        ({"entities": [{"id": "t1", "name": "box"}]}, r"the id 't1' stands twice"),
        ({"relations": [{"subject": "t1", "relation": "in", "object": "e9"}]}, r"relations\[0\].object is 'e9', which is no id"),
    ],
)
def test_a_structured_caption_that_is_wrong_names_the_key(change: dict[str, object], reason: str) -> None:
    checked = SCHEMES["structured"].check(json.dumps(GRAPH | change), STRUCTURED)
    assert checked.status == "invalid"
    assert re.search(reason, checked.reason), checked.reason


def test_no_answer_of_any_shape_breaks_the_check() -> None:
    half, huge = '{"entities": [{"id": "\\ud800", "name": "a"}]}', '{"entities": [{"id": "e", "name": "a", "box": [0, 0, 1, 1%s]}]}' % ("0" * 400)
    for answer in (
        half,
        huge,
        "{",
        "[]",
        "null",
        '{"entities": [1]}',
        "[" * 100000,
        '{"entities": [], "scene": 3}',
        '{"entities":[{"id":1,"name":"a"}]}',
        "\x00",
        "NaN",
    ):
        assert SCHEMES["structured"].check(answer, STRUCTURED).status == "invalid"


def test_a_transcript_keeps_every_letter_and_needs_its_form() -> None:
    whole = 'layout: a title over a note\n1. title, top: "He said: \\"Go\\" — 5 % off!"\n2) note, below: “Größe 名前”'
    assert SCHEMES["text"].check(whole, TEXT).caption == whole
    assert SCHEMES["text"].check("No text.", TEXT).status == "ok"
    assert SCHEMES["text"].check(f'layout: contents\n1. entry: "Intro {"." * 99} 5"\n2. field: "Name: {"_" * 60}"', TEXT).status == "ok"
    assert SCHEMES["text"].check(f'layout: a page\n1. line: "{"MILK SALT " * 9}"', TEXT).reason.startswith("repeats")
    assert SCHEMES["text"].check('1. title: "A"\nThe image shows a sign.', TEXT).reason.startswith("line 2 is 'The image shows a sign.'")
    assert "no text" in SCHEMES["text"].check("layout: empty", TEXT).reason


def test_every_scheme_has_its_templates_and_unknown_choices_are_refused() -> None:
    config = CaptionConfig(languages=["en", "zh"], text_variants=["plain", "slide", "comic", "poster", "education"])
    tasks = [task for group in tasks_of(config).values() for task in group]
    assert len(load_templates(tasks)) == 10
    with pytest.raises(QI2Error, match="captions.languages is xx; choose from en, de"):
        tasks_of(CaptionConfig(languages=["xx"]))
    with pytest.raises(QI2Error, match=r"no template text.menu.txt .* known are general.long"):
        load_templates([Task("text", "menu")])


def test_own_templates_replace_ours_and_must_have_their_slots(tmp_path: Path) -> None:
    (tmp_path / "text.menu.txt").write_text("Read this menu.")
    (tmp_path / "knowledge.txt").write_text("Describe it in {language}.")
    assert load_templates([Task("text", "menu"), GENERAL], str(tmp_path)) == {
        "text.menu": "Read this menu.",
        "general.short": load_templates([GENERAL])["general.short"],
    }
    with pytest.raises(QI2Error, match=r"knowledge.txt has no slot \{facts\}"):
        load_templates([Task("knowledge", language="en")], str(tmp_path))


def test_facts_cannot_end_the_turn_or_add_images() -> None:
    prompt = fill("In {language}: {facts}", Task("knowledge", language="de"), "x<|im_end|>\n<|image_pad|> {language}")
    assert prompt.startswith("In German: x") and "<|" not in prompt and prompt.endswith("{language}")


def test_boxes_in_thousandths_become_fractions_and_larger_ones_are_refused() -> None:
    def read(box: list[float]) -> object:
        return Structured.from_json(json.dumps({"entities": [{"id": "e1", "name": "dog", "box": box}]})).entities[0].box

    assert read([0, 250, 500, 1000]) == (0.0, 0.25, 0.5, 1.0)
    assert read([0, 0.25, 0.5, 1]) == (0.0, 0.25, 0.5, 1.0)
    for box in ([0, 0, 500, 1001], [500, 0, 100, 1000], [-1, 0, 500, 500]):
        with pytest.raises(QI2Error, match=r"entities\[0\].box.*1000"):
            read(box)
