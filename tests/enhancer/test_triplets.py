"""Triplets keep intent, texts and language, and are a pure function of annotations, configuration and seed."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from qi2.core.errors import QI2Error
from qi2.core.rng import numpy_rng
from qi2.data.world.captions import captions
from qi2.data.world.edits import sample_edit
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import TINY_KINDS
from qi2.enhancer.categories import classify
from qi2.enhancer.config import LimitsConfig, TripletsConfig
from qi2.enhancer.strategies.base import quoted
from qi2.enhancer.template import FULL
from qi2.enhancer.triplets import Annotation, Degrader, Triplet, build, figures, read_triplets, sound, write_triplets
from qi2.enhancer.truth import read_truth

CONFIG = TripletsConfig(pool=200)


def annotated(n: int = 60) -> list[Annotation]:
    found = []
    for i in range(n):
        draw = numpy_rng(i, "annotated")
        scene = sample_scene(draw, TINY_KINDS[i % 5])
        found.append(Annotation(f"s{i}", "t2i", scene.kind, captions(scene, draw, 1)[0], scene.to_json()))
        edit = sample_edit(draw)
        found.append(Annotation(f"e{i}", "ti2i", edit.kind, edit.instruction, edit.to_json(), (f"e{i}-ref0",)))
    return found


def test_the_same_seed_gives_the_same_triplets_and_another_others() -> None:
    first, again, other = (build(annotated(), CONFIG, Degrader(CONFIG), seed) for seed in (0, 0, 1))
    assert first == again != other
    assert len(first) == 200
    assert Counter(t.task for t in first) == {"t2i": 140, "ti2i": 60}


def test_every_triplet_passes_the_checks_of_a_rewrite_and_keeps_its_texts() -> None:
    for triplet in build(annotated(), CONFIG, Degrader(CONFIG), 0):
        assert sound(triplet, LimitsConfig()), triplet
        assert Counter(quoted(triplet.short)) == Counter(quoted(triplet.fine))


def test_a_full_prompt_says_so_and_stays() -> None:
    full = [t for t in build(annotated(), CONFIG, Degrader(CONFIG), 0) if t.reasoning == FULL]
    assert full and all(t.short == t.fine and not t.dropped and not t.strategies for t in full)


def test_edits_become_concise_and_lose_no_attribute() -> None:
    edits = [t for t in build(annotated(), replace(CONFIG, keep=0.0), Degrader(replace(CONFIG, keep=0.0)), 0) if t.task == "ti2i"]
    assert not any(t.dropped for t in edits)
    assert sum("concise" in t.strategies for t in edits) > 0.8 * len(edits)
    assert sum(len(t.short) for t in edits if t.strategies == ("concise",)) < sum(len(t.fine) for t in edits if t.strategies == ("concise",))


def test_the_reasoning_undoes_the_last_step_first() -> None:
    degrade = Degrader(replace(CONFIG, keep=0.0, mixture={"background": 1.0, "terse": 1.0}))
    triplet = degrade(Annotation("a", "t2i", "one", "a red circle at the top left on a white background"), numpy_rng(0, "t"))
    assert (triplet.short, triplet.strategies) == ("red circle top left", ("background", "terse"))
    assert triplet.reasoning == "search words: say a sentence; no background is given: white"
    assert triplet.dropped == ("background", "texture")


@pytest.mark.parametrize(
    ("prompt", "category"),
    [
        ("a red car in the snow", "general"),
        ("a smiling woman with red hair", "portrait"),
        ('a woman holds a sign "OPEN"', "text"),
        ('a poster with the headline "SALE" and the line "today only"', "complex_text"),
        ("the word KITE at the top", "text"),
    ],
)
def test_prompts_are_sorted_into_the_four_categories(prompt: str, category: str) -> None:
    assert classify(prompt) == category


def test_triplets_survive_their_file_and_a_bad_line_is_named(tmp_path: Path) -> None:
    path, made = tmp_path / "t.jsonl", build(annotated(), CONFIG, Degrader(CONFIG), 0)
    write_triplets(path, made)
    assert read_triplets(path) == made
    assert abs(sum(v for k, v in figures(made).items() if k.startswith("triplets/task")) - 1) < 1e-9
    path.write_text(json.dumps({"short": "x", "fine": "a x"}) + "\n{broken\n")
    with pytest.raises(QI2Error, match="line 2"):
        read_triplets(path)
    path.write_text(json.dumps({"short": "dog", "fine": "a dog on a red sofa"}))
    assert read_triplets(path) == [Triplet("t.jsonl:1", "t2i", "", "general", "dog", FULL, "a dog on a red sofa")]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (b'"task": "edit"', "task is one of t2i, ti2i, not 'edit'"),
        (b'"category": "photo"', "category is one of general"),
        (b'"task": 5', "task has to be a text, not 5"),
        (b'"reasoning": ["a"]', 'reasoning has to be a text, not \\["a"\\]'),
        (b'"strategies": 5', "strategies has to be a list of texts, not 5"),
        (b'"references": "a.png"', 'references has to be a list of texts, not "a.png"'),
        (b'"dropped": [1]', "dropped has to be a list of texts"),
        (b'"kind": "caf\xe9"', "UTF-8"),
        (b'"kind": "\xed\xa0\x80"', "UTF-8"),
        (b'"kind": "\\ud800"', "UTF-8"),
        (b'"kind": ' + b"[" * 100_000, "not a triplet"),
        (b'"short": null', "short and fine have to be texts"),
    ],
)
def test_what_is_wrong_with_an_own_example_is_told_with_file_and_line(tmp_path: Path, more: bytes, told: str) -> None:
    path = tmp_path / "own.jsonl"
    path.write_bytes(b'{"short": "dog", "fine": "a dog"}\n{"short": "dog", "fine": "a dog", ' + more + b"}\n")
    with pytest.raises(QI2Error, match=f"own.jsonl, line 2: .*{told}"):
        read_triplets(path)


def test_null_is_as_good_as_absent_and_line_ends_of_unicode_are_no_ends(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"short": "dog", "fine": "a dog", "task": null, "references": null}\n{"short": "a\u2028b", "fine": "a b"}\n', encoding="utf-8")
    found = read_triplets(path)
    assert (found[0].task, found[0].references, found[1].short) == ("t2i", (), "a\u2028b")
    with pytest.raises(QI2Error, match="directory"):
        read_triplets(tmp_path)


@pytest.mark.parametrize("task", ["t2i", "ti2i"])
@pytest.mark.parametrize("text", ["xyz", "[]", "5", "{}"])
def test_a_truth_that_is_none_is_told(task: str, text: str) -> None:
    with pytest.raises(QI2Error, match="triplet is no|not a scene"):
        read_truth(task, text)


def test_own_examples_join_the_mixture(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"short": "kringle", "fine": "a circle"}))
    config = replace(CONFIG, examples=[str(path)])
    assert any(t.short == "kringle" for t in build(annotated(), config, Degrader(config), 0))
