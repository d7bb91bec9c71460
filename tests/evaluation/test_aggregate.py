"""The published formulas, on cases worked out by hand."""

import math
from typing import Any

import pytest

from qi2.evaluation.aggregate.base import Table
from qi2.evaluation.aggregate.dpg import propagate
from qi2.evaluation.aggregate.geneval import detected, relations
from qi2.evaluation.aggregate.registry import AGGREGATORS
from qi2.evaluation.aggregate.strings import characters, edit_distance, normalise, shared, words
from qi2.evaluation.suites.row import Row


def row(category: str = "all", **truth: Any) -> Row:
    return Row("1", "a prompt", category, (), truth)


def measured(name: str, answer: dict[str, Any], item: Row) -> dict[str, float]:
    assert AGGREGATORS[name].check(item) == ""
    return AGGREGATORS[name].measure(answer, item, {})


def combined(name: str, categories: list[str], lines: list[list[dict[str, float]]]) -> dict[str, float]:
    return AGGREGATORS[name].combine(Table.of(categories, lines), {})


def box(kind: str, left: float, top: float, score: float = 0.95, color: str = "red") -> dict[str, Any]:
    return {"class": kind, "box": [left, top, left + 10, top + 10], "score": score, "color": color}


class TestGenEval:
    """djghosh13/geneval's rules."""

    def score(self, objects: list[dict[str, Any]], category: str, **truth: Any) -> float:
        return measured("geneval", {"objects": objects}, row(category, **truth))["score"]

    def test_one_object_needs_a_detection_above_0_3(self) -> None:
        truth = {"include": [{"class": "cup", "count": 1}]}
        assert self.score([box("cup", 0, 0, 0.31)], "single_object", **truth) == 1
        assert self.score([box("cup", 0, 0, 0.3)], "single_object", **truth) == 0
        assert self.score([box("dog", 0, 0)], "single_object", **truth) == 0

    def test_counting_needs_0_9_and_neither_more_nor_less(self) -> None:
        truth = {"include": [{"class": "cup", "count": 2}], "exclude": [{"class": "cup", "count": 3}]}
        two = [box("cup", 0, 0, 0.95), box("cup", 20, 0, 0.91)]
        assert self.score(two, "counting", **truth) == 1
        assert self.score([*two, box("cup", 40, 0, 0.89)], "counting", **truth) == 1
        assert self.score([*two, box("cup", 40, 0, 0.92)], "counting", **truth) == 0
        assert self.score(two[:1], "counting", **truth) == 0

    def test_colour_is_read_from_the_surest_detection_alone(self) -> None:
        truth = {"include": [{"class": "cup", "count": 1, "color": "blue"}]}
        assert self.score([box("cup", 0, 0, 0.5, "blue")], "colors", **truth) == 1
        assert self.score([box("cup", 0, 0, 0.5, "blue"), box("cup", 20, 0, 0.9, "red")], "colors", **truth) == 0

    def test_place_is_judged_against_an_earlier_clause_that_held(self) -> None:
        truth = {"include": [{"class": "dog", "count": 1}, {"class": "cup", "count": 1, "position": ["left of", 0]}]}
        assert self.score([box("dog", 50, 0), box("cup", 0, 0)], "position", **truth) == 1
        assert self.score([box("dog", 0, 0), box("cup", 50, 0)], "position", **truth) == 0
        assert self.score([box("cup", 0, 0)], "position", **truth) == 0

    def test_relations_of_two_boxes_by_hand(self) -> None:
        assert relations([0, 0, 10, 10], [20, 0, 30, 10]) == {"left of"}  # offset -20, less 0.1 x 20: -18 / 20 = -0.9
        assert relations([0, 0, 10, 10], [2, 0, 12, 10]) == set()  # offset 2 = 0.1 x (10 + 10)
        assert relations([0, 0, 10, 10], [20, 20, 30, 30]) == {"left of", "above"}  # -18 / 28.3 = -0.64 twice
        assert relations([20, 30, 30, 40], [0, 0, 10, 10]) == {"below"}  # 18 / 36.06 = 0.4993 and 28 / 36.06 = 0.776

    def test_at_most_sixteen_of_a_class_the_surest_first(self) -> None:
        found = detected([box("cup", i, 0, 0.4 + i / 100) for i in range(20)], "single_object")["cup"]
        assert [item["score"] for item in found] == [pytest.approx(0.59 - i / 100) for i in range(16)]

    def test_score_is_the_mean_of_the_tasks_means(self) -> None:
        lines = [[{"score": 1.0}, {"score": 0.0}], [{"score": 1.0}, {"score": 1.0}], [{"score": 0.0}, {"score": 0.0}]]
        result = combined("geneval", ["colors", "colors", "counting"], lines)
        assert result == {"score": pytest.approx(0.375), "by_category/colors": 0.75, "by_category/counting": 0.0}

    def test_a_position_without_an_earlier_clause_is_named(self) -> None:
        wrong = row(include=[{"class": "cup", "count": 1, "position": ["left of", 0]}])
        assert "index of an earlier clause" in AGGREGATORS["geneval"].check(wrong)


class TestDPG:
    """A question under a "no" is a "no", down the whole graph."""

    QUESTIONS = [
        {"id": 1, "question": "Is there a cat?", "parents": [], "kind": "entity"},
        {"id": 2, "question": "Is the cat black?", "parents": [1], "kind": "attribute"},
        {"id": 3, "question": "Is there a mat?", "parents": [], "kind": "entity"},
        {"id": 4, "question": "Is the cat on the mat?", "parents": [1, 3], "kind": "relation"},
        {"id": 5, "question": "Is the cat in the mat's middle?", "parents": [4], "kind": "relation"},
    ]

    def test_no_parent_no_child_and_no_grandchild(self) -> None:
        given = {"1": True, "2": True, "3": False, "4": True, "5": True}
        assert propagate(given, self.QUESTIONS) == {"1": True, "2": True, "3": False, "4": False, "5": False}

    def test_the_order_of_questions_does_not_matter(self) -> None:
        given = {"1": True, "2": True, "3": False, "4": True, "5": True}
        assert sum(propagate(given, self.QUESTIONS[::-1]).values()) == 2

    def test_share_of_questions_then_pictures_then_prompts_and_kinds_before_the_rule(self) -> None:
        one = measured("dpg", {"answers": {"1": True, "2": True, "3": False, "4": True, "5": True}}, row(questions=self.QUESTIONS))
        two = measured("dpg", {"answers": {str(i): True for i in range(1, 6)}}, row(questions=self.QUESTIONS))
        assert (one["score"], two["score"]) == (0.4, 1.0)
        result = combined("dpg", ["all", "all"], [[one, two], [one]])
        assert result["score"] == pytest.approx((0.7 + 0.4) / 2)
        assert result["by_kind/entity"] == pytest.approx((1.5 + 1) / 4)
        assert result["by_kind/relation"] == 1.0

    def test_a_circle_or_an_unknown_parent_is_named(self) -> None:
        circle = [{"id": 1, "question": "?", "parents": [2]}, {"id": 2, "question": "?", "parents": [1]}]
        assert "circle" in AGGREGATORS["dpg"].check(row(questions=circle))
        assert "parent 9" in AGGREGATORS["dpg"].check(row(questions=[{"id": 1, "question": "?", "parents": [9]}]))


class TestText:
    """Words, characters and edit distances."""

    @pytest.mark.parametrize(
        ("one", "other", "distance"), [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("same", "same", 0), ("flaw", "lawn", 2), ("ab", "ba", 2)]
    )
    def test_edit_distance_by_hand(self, one: str, other: str, distance: int) -> None:
        assert edit_distance(one, other) == distance == edit_distance(other, one)

    def test_texts_are_compared_without_case_punctuation_and_width(self) -> None:
        assert normalise("  Hello,\n WORLD!  ") == "hello world"
        assert normalise("don't + 5$") == "dont 5"
        assert words("ＡＢＣ １２") == ["abc", "12"]
        assert words("你好，世界", "zh") == ["你", "好", "世", "界"]
        assert characters("a b!") == ["a", "b"]
        assert shared("aab", "abb") == 2

    def test_word_and_character_accuracy_and_ned_by_hand(self) -> None:
        numbers = measured("text", {"lines": ["open THE", "dor"]}, row(text=["Open the", "door!"]))
        assert numbers == {"score": pytest.approx(2 / 3), "character_accuracy": pytest.approx(10 / 11), "ned": pytest.approx(10 / 11), "exact": 0}
        assert measured("text", {"lines": ["Open the door"]}, row(text="open the door"))["exact"] == 1

    def test_nothing_read_is_zero_and_too_much_read_is_never_below(self) -> None:
        assert measured("text", {"lines": []}, row(text="hi")) == {"score": 0, "character_accuracy": 0, "ned": 0, "exact": 0}
        much = measured("text", {"lines": ["hi and much more"]}, row(text="hi"))
        assert (much["score"], much["character_accuracy"], much["ned"]) == (1, 0, pytest.approx(2 / 13))

    def test_text_without_letters_is_refused(self) -> None:
        assert "no letter" in AGGREGATORS["text"].check(row(text=["!?"]))

    def test_longtext_recalls_each_word_as_often_as_it_was_asked_for_over_the_whole_suite(self) -> None:
        one = measured("longtext", {"lines": ["to be or not"]}, row(text="to be or not to be"))
        two = measured("longtext", {"lines": ["好你"]}, row(text="你好吗", language="zh"))
        assert (one, two) == ({"read": 4, "asked": 6}, {"read": 2, "asked": 3})
        result = combined("longtext", ["en", "en", "zh"], [[one], [{"read": 1, "asked": 1}], [two]])
        assert result == {"score": pytest.approx(7 / 10), "by_category/en": pytest.approx(5 / 7), "by_category/zh": pytest.approx(2 / 3)}

    def test_oneig_by_hand(self) -> None:
        one = measured("oneig-text", {"lines": ["abc def"]}, row(text="abc def"))
        two = measured("oneig-text", {"lines": ["abc xyz"]}, row(text="abc def"))
        result = combined("oneig-text", ["all", "all"], [[one], [two]])  # ED 1.5, CR 1/2, WAC 3/4, M 100
        assert result["score"] == pytest.approx(1 - 1.5 * 0.5 * 0.25 / 100)
        three = measured("oneig-text", {"lines": [""]}, row(text="字" * 60, language="zh"))
        assert combined("oneig-text", ["all"], [[three]])["score"] == 0  # ED 60 counts as M = 50


class TestJudged:
    """Scores of a judge."""

    def test_gedit_is_the_root_of_the_product_per_type_and_then_the_mean(self) -> None:
        first = measured("gedit", {"scores": {"semantics": [9, 4], "quality": 9}}, row("color"))
        assert first["score"] == 6
        second = measured("gedit", {"scores": {"semantics": 0, "quality": 10}}, row("color"))
        third = measured("gedit", {"scores": {"semantics": 8, "quality": 8}}, row("text"))
        result = combined("gedit", ["color", "color", "text"], [[first], [second], [third]])
        assert result["score"] == pytest.approx((3 + 8) / 2)
        assert result["semantics"] == pytest.approx((2 + 8) / 2)

    def test_imgedit_is_the_mean_of_three_per_type(self) -> None:
        numbers = measured("imgedit", {"scores": {"compliance": 5, "naturalness": 4, "integrity": 3}}, row("add"))
        assert numbers["score"] == 4
        assert combined("imgedit", ["add", "remove"], [[numbers], [{**numbers, "score": 2.0}]])["score"] == 3

    def test_dreambench_is_mean_preservation_times_mean_following(self) -> None:
        copy = measured("dreambench", {"scores": {"preservation": 4, "following": 0}}, row("scene"))
        half = measured("dreambench", {"scores": {"preservation": 2, "following": 4}}, row("style"))
        assert (copy, half) == ({"score": 0.0, "preservation": 1.0, "following": 0.0}, {"score": 0.5, "preservation": 0.5, "following": 1.0})
        result = combined("dreambench", ["scene", "style"], [[copy], [half]])
        assert result == {"score": 0.375, "preservation": 0.75, "following": 0.5, "by_category/scene": 0.0, "by_category/style": 0.5}

    def test_wise_weights_culture_as_published(self) -> None:
        domains = ["cultural", "time", "space", "biology", "physics", "chemistry"]
        lines = [[{"score": float(i == 0)}] for i in range(6)]
        assert combined("wise", domains, lines)["score"] == pytest.approx(0.40)
        assert combined("wise", domains[1:], [[{"score": 1.0}]] * 5)["score"] == pytest.approx(1.0)
        assert "no domain" in AGGREGATORS["wise"].check(row("cooking"))

    def test_similarity_names_the_worst_reference(self) -> None:
        numbers = AGGREGATORS["similarity"].measure({"similarities": [0.9, 0.3]}, row(), {})
        assert numbers == {"score": pytest.approx(0.6), "worst": 0.3}


def test_a_number_that_does_not_apply_to_a_prompt_is_left_out_of_its_mean() -> None:
    table = Table.of(["a", "b"], [[{"x": 1.0, "y": 3.0}], [{"x": 0.0}]])
    assert (table.mean("x"), table.mean("y"), table.total("y")) == (0.5, 3.0, 3.0)
    assert math.isnan(table.mean("y", "b"))
