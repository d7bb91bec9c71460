"""The shipped suites that need a served model: whole, balanced, judged by what their rows say, and never called by a benchmark's name."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from qi2.cli import main
from qi2.evaluation.aggregate.wise import WEIGHTS
from qi2.evaluation.drawing import Job, chunks
from qi2.evaluation.scorers.registry import open_scorer
from qi2.evaluation.scorers.vlm import VLMScorer
from qi2.evaluation.store import Store
from qi2.evaluation.suites.registry import find_suite, suite_files
from qi2.evaluation.suites.run import Result, evaluate_suite
from tests.evaluation.vlm_server import Reply, serve

PAPERS = re.compile(r"geneval|dpg|wise|gedit|imgedit|dreambench|longtext-bench|cvtg|oneig", re.IGNORECASE)


class Painter:
    """Draws a plain small picture, whatever the suite's size."""

    name, facts, size, batch = "plain", {"model": "plain"}, 32, 64

    def draw(self, jobs: Sequence[Job]) -> Iterator[list[Image.Image]]:
        for part in chunks(jobs, self.batch):
            yield [Image.frombytes("RGB", (1, 1), (job.seed % 2**24).to_bytes(3)).resize((32, 32)) for job in part]


def evaluated(name: str, folder: Path, reply: Reply, each: int = 99) -> tuple[Result, list[str]]:
    """One small picture per prompt, of at most ``each`` prompts of a category."""
    suite, seen = find_suite(name), Counter[str]()
    rows = tuple(row for row in suite.rows if seen.update([row.category]) or seen[row.category] <= each)
    suite = replace(suite, rows=rows, config=replace(suite.config, images=1, size=32))
    with serve(reply) as server:
        scorer = open_scorer(suite, f"{server.url}#vlm")
        assert isinstance(scorer, VLMScorer)
        return evaluate_suite(Painter(), suite, scorer, Store(folder / "store"), resamples=10), server.asked


def test_portraits_are_asked_question_by_question_and_a_child_of_no_is_no(tmp_path: Path) -> None:
    result, asked = evaluated("portraits", tmp_path, lambda text, images: "no" if "Does the picture show" in text else "yes", 1)
    rows = result.suite.rows
    assert len(asked) == sum(len(row.truth["questions"]) for row in rows)
    first = {row.id: row for row in rows}["age-0"]
    assert [question["parents"] for question in first.truth["questions"]] == [[], [1], [1], [1], [4], [1], [], [7]]
    assert next(item for item in result.items if item["id"] == "age-0")["numbers"][0]["score"] == 2 / 8  # the harbour alone does not hang on the man
    assert result.label == "dpg-protocol/vlm"


def test_every_portrait_has_enough_questions_and_its_words_stand_in_its_prompt() -> None:
    rows = find_suite("portraits").rows
    assert set(Counter(row.category for row in rows).values()) == {4} and len(rows) == 36
    for row in rows:
        assert 5 <= len(row.truth["questions"]) <= 9, row.id
        assert {question["kind"] for question in row.truth["questions"]} <= {"entity", "attribute", "relation", "global"}
        assert all(question["question"].endswith("?") for question in row.truth["questions"])
        assert all(parent < question["id"] for question in row.truth["questions"] for parent in question["parents"])


def test_knowledge_weighs_its_domains_and_tells_the_judge_what_is_right_but_not_the_painter(tmp_path: Path) -> None:
    result, asked = evaluated("knowledge", tmp_path, lambda text, images: json.dumps({"correct": int("Right is: The ice floats" not in text)}))
    counts = Counter(row.category for row in result.suite.rows)
    assert counts == {"cultural": 16} | {domain: 8 for domain in WEIGHTS if domain != "cultural"}
    assert result.figures["by_category/physics"].value == 7 / 8
    assert result.figures["score"].value == pytest.approx(1 - 0.12 / 8)
    assert sum("Right is: The ice floats" in text for text in asked) == 1
    assert all("Right is" not in row.prompt for row in result.suite.rows)


def test_both_editing_suites_share_their_pictures_and_have_their_own_scales(tmp_path: Path) -> None:
    whole, asked = evaluated("editing", tmp_path, lambda text, images: json.dumps({"semantics": 4, "quality": 9}), 1)
    parts, other = evaluated("editing-parts", tmp_path, lambda text, images: json.dumps({"compliance": 5, "naturalness": 4, "integrity": 3}), 1)
    assert (whole.figures["score"].value, parts.figures["score"].value) == (6.0, 4.0)
    assert (whole.drawn.drawn, parts.drawn.drawn) == (len(whole.suite.rows), 0)
    assert "semantics from 0" in asked[0]
    assert any("The cat's face, fur pattern, eyes and pose stay." in text for text in asked)
    assert "integrity from 1" in other[0]
    assert {"text", "compose", "hybrid", "material"} <= {row.category for row in whole.suite.rows}


def test_editing_texts_expects_the_lines_that_stay_and_shares_pictures_with_the_judged_suite(tmp_path: Path) -> None:
    texts, judged = find_suite("editing-text"), {row.prompt: row for row in find_suite("editing").rows if row.category == "text"}
    assert len({row.category for row in texts.rows}) == 12
    shared = [row for row in texts.rows if row.prompt in judged]
    assert len(shared) == len(judged)
    assert all([one.hash(512) for one in row.references] == [one.hash(512) for one in judged[row.prompt].references] for row in shared)
    for row in texts.rows:
        quoted = re.findall("“(.*?)”", row.prompt)
        assert row.category == "en" or quoted == row.truth["text"], row.prompt


def test_identity_has_one_two_and_three_references_and_multiplies_its_two_scales(tmp_path: Path) -> None:
    result, _ = evaluated("identity", tmp_path, lambda text, images: json.dumps({"preservation": len(images) - 1, "following": 2}))
    counts = Counter(len(row.references) for row in result.suite.rows)
    assert set(counts) == {1, 2, 3}
    mean = sum(n * count for n, count in counts.items()) / len(result.suite.rows)
    assert result.figures["score"].value == pytest.approx(mean / 4 * 2 / 4)


def test_no_shipped_suite_bears_a_benchmarks_name() -> None:
    for name in suite_files():
        suite = find_suite(name)
        assert not PAPERS.search(name) and not PAPERS.search(suite.config.about) and suite.config.licence == "Apache-2.0", name
        assert "-protocol/" in suite.label("anyone")


def test_the_list_names_every_suite_who_is_asked_and_what_about(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "suites"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["suite", "pictures", "task", "asks", "of", "formula", "version", "about"]
    assert [line.split()[0] for line in lines] == sorted(suite_files())
    found = {line.split()[0]: line for line in lines}
    assert re.search(r"60 x 2  edit  judge +world +dreambench +\w{12}  An object", found["world-identity"])
    assert re.search(r"36 x 4  t2i   vqa +--scorer +dpg ", found["portraits"])
