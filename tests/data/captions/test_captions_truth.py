"""Exact captions are true of every scene in every language, and the measure tells them from wrong ones."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import product

import pandas as pd
import pytest

from qi2.core.errors import QI2Error
from qi2.core.rng import numpy_rng
from qi2.data.captions import truth
from qi2.data.captions.captioner import Request, TruthCaptioner
from qi2.data.captions.config import CaptionConfig
from qi2.data.captions.evaluate import evaluate
from qi2.data.captions.facts import facts, true_facts
from qi2.data.captions.graph import structured_truth
from qi2.data.captions.intervals import Figure
from qi2.data.captions.matching import structured_ratios
from qi2.data.captions.reading import stated
from qi2.data.captions.schemes import SCHEMES, tasks_of
from qi2.data.captions.words import known_languages
from qi2.data.world import palette
from qi2.data.world.captions import all_captions
from qi2.data.world.edits import EDIT_KINDS, sample_edit
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import KINDS, Scene

FACTS = "Drawn in 2026 by Ada Lovelace; a red star won a prize."


def scenes(n: int) -> dict[str, Scene]:
    """``n`` scenes of every kind, and ``n`` results of every kind of edit, which the kinds do not always describe."""
    rng = numpy_rng(0, "tests/captions")
    found = [sample_scene(rng, kind, "any") for kind in KINDS for _ in range(n)]
    found += [sample_edit(rng, kind, "train").target for kind in EDIT_KINDS for _ in range(n)]
    return {f"s{i}": scene for i, scene in enumerate(found)}


def captioned(shown: dict[str, Scene]) -> pd.DataFrame:
    """The exact captions of all schemes, languages and lengths as a run would write them."""
    tasks = [task for group in tasks_of(CaptionConfig(languages=known_languages())).values() for task in group]
    records = []
    for task in tasks:
        requests = [Request(name, task, "", FACTS, scene=scene) for name, scene in shown.items()]
        for request, answer in zip(requests, TruthCaptioner().answer(requests), strict=True):
            checked = SCHEMES[task.scheme].check(answer.text, task)
            assert (checked.status, checked.caption) == ("ok", answer.text), (task, answer.text, checked.reason)
            records.append({"id": request.id, **vars(task), "caption": answer.text, "status": "ok"})
    return pd.DataFrame(records)


@pytest.fixture(scope="module")
def measured() -> Callable[[dict[str, Scene]], dict[str, Figure]]:
    shown = scenes(20)
    table = captioned(shown)
    return lambda chosen: evaluate(table, chosen or shown, dict.fromkeys(shown, FACTS))


def _is_error(name: str) -> bool:
    return name.endswith(("hallucinated", "cer"))


def test_the_truth_scores_full_marks_in_every_scheme_and_language(measured: Callable[..., dict[str, Figure]]) -> None:
    figures = measured({})
    assert {name.split("/")[0] for name in figures} == set(SCHEMES)
    assert all(f"general/{language}/facts" in figures for language in ("en", "de", "fr", "es", "zh", "ja"))
    assert {name: item.value for name, item in figures.items()} == {name: 0.0 if _is_error(name) else 1.0 for name in figures}


def test_captions_of_another_scene_score_lower_everywhere(measured: Callable[..., dict[str, Figure]]) -> None:
    shown = scenes(20)
    names = list(shown)
    figures = measured({name: shown[names[(i + 17) % len(names)]] for i, name in enumerate(names)})
    for name, item in figures.items():
        if not name.endswith("given"):
            assert (item.low > 0.2) if _is_error(name) else (item.value < (0.9 if name == "text/order" else 0.8)), (name, item)


def wrong(scene: Scene) -> Iterator[Scene]:
    """The scene with one thing in it changed."""
    first, *rest = scene.objects or (None,)
    yield replace(scene, background=_next(palette.BACKGROUNDS, scene.background))
    if first:
        yield replace(scene, objects=(replace(first, color=_next(palette.COLORS, first.color)), *rest))
        yield replace(scene, objects=(replace(first, shape=_next(palette.SHAPES, first.shape)), *rest))
    if rest and not scene.relation:
        yield replace(scene, objects=tuple(rest))
    if scene.words:
        yield replace(scene, words=(replace(scene.words[0], text="ZZ"),))
    if face := scene.portrait:
        other = {"hair": _next(palette.HAIR, face.hair), "skin": _next(palette.SKIN, face.skin), "glasses": not face.glasses}
        other |= {"expression": _next(palette.EXPRESSIONS, face.expression), "shirt": _next(palette.COLORS, face.shirt)}
        yield from (replace(scene, portrait=replace(face, **{name: value})) for name, value in other.items())
    if scene.layout:
        yield replace(scene, layout=replace(scene.layout, title="ZZ"))


def _next(values: Iterable[str], value: str) -> str:
    known = list(values)
    return known[(known.index(value) + 1) % len(known)]


def test_one_wrong_thing_is_noticed_in_every_language() -> None:
    for scene in list(scenes(2).values())[: 2 * len(KINDS)]:
        for other in wrong(scene):
            assert structured_ratios(truth.structured(other), scene)["exact"] == (False, 1)
            for language, length in product(known_languages(), truth.LENGTHS):
                found = stated(truth.general(other, language, length), language)
                assert facts(scene) - found or found - true_facts(scene), (language, length, other)


def test_a_turned_relation_is_noticed_in_every_language() -> None:
    for scene in [scene for scene in scenes(6).values() if scene.relation]:
        other = replace(scene, relation=palette.OPPOSITE[scene.relation or ""])
        for language in known_languages():
            found = stated(truth.general(other, language, "short"), language)
            assert len(found - true_facts(scene)) == len(facts(scene) - found) == 1, (language, other)


def test_boxes_count_by_their_overlap() -> None:
    scene = Scene.from_json('{"kind":"one","objects":[{"shape":"square","color":"red","row":0,"col":0}]}')
    moved = replace(scene, objects=(replace(scene.objects[0], col=1),))
    assert structured_ratios(truth.structured(scene), scene)["box_overlap"] == (1.0, 1)
    assert structured_ratios(truth.structured(moved), scene)["box_overlap"] == (0.0, 1)
    left, top, right, bottom = structured_truth(scene).entities[0].box or (0, 0, 1, 1)
    half = {"id": "a", "name": "square", "attributes": {"color": "red"}, "box": [left, top, (left + right) / 2, bottom]}
    assert structured_ratios(json.dumps({"entities": [half]}), scene)["box_overlap"] == (pytest.approx(0.5), 1)


def test_given_facts_count_by_their_words_wherever_they_stand() -> None:
    shown = {"s0": next(iter(scenes(1).values()))}

    def kept(caption: str, given: str) -> float:
        table = pd.DataFrame([{"id": "s0", "scheme": "knowledge", "language": "en", "caption": caption, "status": "ok"}])
        return evaluate(table, shown, {"s0": given})["knowledge/given"].value

    assert kept("In 1931 Munch (Oslo) drew a red star.", "Caption: Munch, Oslo.\nSource: 1931") == 1.0
    assert kept("Munch drew it in 1932.", "Munch, 1931.") == 0.5
    assert kept("这幅画是蒙克一九三一年在奥斯陆画的。", "蒙克画于奥斯陆") == pytest.approx(3 / 6)


def test_every_phrasing_of_the_world_is_read_completely() -> None:
    for scene in scenes(4).values():
        for caption in all_captions(scene):
            found = stated(caption, "en")
            assert facts(scene) <= found <= true_facts(scene), caption


@pytest.mark.parametrize(
    ("caption", "language", "fact"),
    [
        ("A blue star to the right of the red circle.", "en", ("relation", "red", "circle", "left of", "blue", "star")),
        ("Der rote Kreis ist unter dem blauen Stern.", "de", ("relation", "blue", "star", "above", "red", "circle")),
        ("une étoile bleue au-dessus d'un cercle rouge", "fr", ("relation", "blue", "star", "above", "red", "circle")),
        ("el círculo rojo está a la derecha de la estrella azul", "es", ("relation", "blue", "star", "left of", "red", "circle")),
        ("红色圆形位于蓝色五角星的下方。", "zh", ("relation", "blue", "star", "above", "red", "circle")),
        ("赤い円は青い星の右側にある。", "ja", ("relation", "blue", "star", "left of", "red", "circle")),
        ("three red circles on a mint background", "en", ("count", "red", "circle", "3")),
        ("a red background", "en", ("background", "red")),
    ],
)
def test_what_others_write_is_read(caption: str, language: str, fact: tuple[str, ...]) -> None:
    assert fact in stated(caption, language)


def test_mint_is_no_green_and_a_place_is_no_relation() -> None:
    assert stated("un cercle rouge en haut à gauche et une étoile bleue en bas sur un fond vert menthe", "fr") == {
        ("object", "red", "circle"),
        ("object", "blue", "star"),
        ("background", "mint"),
    }


def test_languages_agree_with_their_nouns() -> None:
    scene = Scene.from_json('{"kind":"two","objects":[{"shape":"star","color":"purple","row":0,"col":0},{"shape":"square","color":"red","row":1,"col":1}]}')
    assert truth.general(scene, "fr", "short") == "Une étoile violette et un carré rouge sur un fond blanc."
    assert truth.general(scene, "de", "short") == "Ein violetter Stern und ein rotes Quadrat auf weißem Hintergrund."
    assert truth.general(scene, "es", "medium") == "Una estrella morada arriba a la izquierda y un cuadrado rojo abajo a la derecha sobre un fondo blanco."


def test_a_language_without_words_says_which_there_are() -> None:
    with pytest.raises(QI2Error, match="no words in 'ko'; it speaks de, en, es, fr, ja, zh"):
        truth.general(next(iter(scenes(1).values())), "ko", "short")


def test_refused_and_invalid_captions_count_as_saying_nothing() -> None:
    shown = scenes(2)
    table = captioned(shown).assign(caption="", status="refused")
    figures = evaluate(table, shown)
    assert figures["general/facts"].value == figures["structured/entity_recall"].value == figures["text/exact"].value == 0.0
    assert figures["text/cer"].value == 1.0
