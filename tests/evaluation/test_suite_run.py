"""Sampling once, scoring many: pictures are drawn once per model, prompt, noise and setting, and only what changed is done again."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from qi2.cli import main
from qi2.cli.paint import open_painter
from qi2.core.errors import QI2Error
from qi2.evaluation.aggregate.base import Answer
from qi2.evaluation.drawing import Job, chunks, draw
from qi2.evaluation.painter import ModelPainter
from qi2.evaluation.scorers.vlm import VLMScorer
from qi2.evaluation.scorers.world import WorldDetector
from qi2.evaluation.store import Store
from qi2.evaluation.suites.row import Row
from qi2.evaluation.suites.run import evaluate_suite, plan
from qi2.evaluation.suites.suite import Suite, load_suite
from tests.evaluation.untrained import build_run
from tests.evaluation.vlm_server import serve

SHAPES = """
name: shapes
scorer: detector
local: world
aggregate: geneval
images: 2
prompts:
  - {prompt: a red circle, category: single_object, include: [{class: circle, count: 1}]}
  - {prompt: a blue star, category: colors, include: [{class: star, count: 1, color: blue}]}
"""
EDITS = """
name: reds
task: edit
scorer: judge
aggregate: gedit
prompts:
  - {prompt: make it red, category: color, references: [a.png]}
  - {prompt: join them, category: compose, references: [a.png, b.png]}
"""


class Painter:
    """Draws a plain picture per noise; ``calls`` are the batches it was asked for; it may be killed after some.

    ``rounds``: pictures also depend on when they were drawn, as rounding depends on a batch.
    """

    def __init__(self, name: str = "m", batch: int = 2, last: int = 99, rounds: bool = False) -> None:
        self.name, self.facts, self.size, self.batch, self.last, self.rounds = name, {"model": name}, 32, batch, last, rounds
        self.calls: list[list[str]] = []

    def draw(self, jobs: Sequence[Job]) -> Iterator[list[Image.Image]]:
        for part in chunks(jobs, self.batch):
            if len(self.calls) == self.last:
                raise KeyboardInterrupt
            self.calls.append([job.prompt for job in part])
            yield [Image.new("RGB", (32, 32), (job.seed % 256, job.seed // 256 % 256, len(self.calls) if self.rounds else 0)) for job in part]


class Counting:
    """The world's detector, counting what it is asked."""

    def __init__(self) -> None:
        self.name, self.identity, self.inner, self.asked = "world-checker", WorldDetector.identity, WorldDetector(), 0

    def answer(self, pictures: Sequence[Image.Image], row: Row) -> list[Answer | None]:
        self.asked += len(pictures)
        return self.inner.answer(pictures, row)


def suite_of(folder: Path, text: str = SHAPES) -> Suite:
    path = folder / "suite.yaml"
    path.write_text(text)
    return load_suite(path)


def test_the_second_time_nothing_is_drawn_or_asked_and_the_figures_are_the_same(tmp_path: Path) -> None:
    suite, store, painter, scorer = suite_of(tmp_path), Store(tmp_path / "store"), Painter(), Counting()
    first, second = (evaluate_suite(painter, suite, scorer, store, resamples=50) for _ in range(2))
    assert (first.drawn.drawn, second.drawn.drawn, scorer.asked) == (4, 0, 4)
    assert len(painter.calls) == 2
    assert first.figures == second.figures
    assert first.items == second.items
    assert first.label == "geneval-protocol/world-checker"
    assert second.drawn.spent_s == first.drawn.spent_s > 0


def test_only_a_changed_prompt_is_drawn_again_and_another_suite_shares_the_rest(tmp_path: Path) -> None:
    store, painter = Store(tmp_path / "store"), Painter()
    evaluate_suite(painter, suite_of(tmp_path), WorldDetector(), store, resamples=10)
    changed = suite_of(tmp_path, SHAPES.replace("a blue star", "a green star").replace("name: shapes", "name: others"))
    assert evaluate_suite(painter, changed, WorldDetector(), store, resamples=10).drawn.drawn == 2
    assert painter.calls[-1] == ["a green star"] * 2
    more = suite_of(tmp_path, SHAPES.replace("images: 2", "images: 3"))
    assert evaluate_suite(painter, more, WorldDetector(), store, resamples=10).drawn.drawn == 2


def test_a_changed_rule_asks_again_without_drawing(tmp_path: Path) -> None:
    store, painter, scorer = Store(tmp_path / "store"), Painter(), Counting()
    evaluate_suite(painter, suite_of(tmp_path), scorer, store, resamples=10)
    result = evaluate_suite(painter, suite_of(tmp_path, SHAPES.replace("class: star, count: 1", "class: star, count: 2")), scorer, store, resamples=10)
    assert (result.drawn.drawn, result.asked) == (0, 2)


def test_another_model_or_setting_has_its_own_pictures(tmp_path: Path) -> None:
    suite = suite_of(tmp_path)
    keys = {job.key for painter in (Painter("a"), Painter("b")) for job in plan(painter, suite, 0)} | {job.key for job in plan(Painter("a"), suite, 1)}
    assert len(keys) == 12


def test_a_killed_run_goes_on_where_it_was_to_the_same_figures(tmp_path: Path) -> None:
    suite = suite_of(tmp_path)
    whole = evaluate_suite(Painter(), suite, WorldDetector(), Store(tmp_path / "whole"), resamples=50)
    with pytest.raises(KeyboardInterrupt):
        evaluate_suite(Painter(last=1), suite, WorldDetector(), Store(tmp_path / "killed"), resamples=50)
    result = evaluate_suite(Painter(), suite, WorldDetector(), Store(tmp_path / "killed"), resamples=50)
    assert result.drawn.drawn == 2
    assert (result.figures, result.items) == (whole.figures, whole.items)


def test_a_damaged_picture_is_drawn_again(tmp_path: Path) -> None:
    suite, store = suite_of(tmp_path), Store(tmp_path / "store")
    first = evaluate_suite(Painter(), suite, WorldDetector(), store, resamples=10)
    path = store.path(first.items[0]["pictures"][0])
    path.write_bytes(path.read_bytes()[:-20])
    second = evaluate_suite(Painter(), suite, WorldDetector(), store, resamples=10)
    assert (second.drawn.drawn, second.items) == (1, first.items)


def test_exact_pictures_come_from_a_batch_of_the_very_same_ones(tmp_path: Path) -> None:
    suite, store = suite_of(tmp_path), Store(tmp_path / "store")
    painter = Painter(batch=3, rounds=True)
    jobs = plan(painter, suite, 0)
    draw(painter, jobs[1:], store)
    first = draw(painter, jobs, store, exact=True)
    assert painter.calls[-2:] == [["a red circle", "a red circle", "a blue star"], ["a blue star"]]
    store.path(first.pictures[1]).unlink()
    fresh = Painter(batch=3, rounds=True)
    fresh.calls = painter.calls[:1]  # so that it rounds as the first time
    assert draw(fresh, jobs, store, exact=True).pictures == first.pictures
    assert fresh.calls[1:] == [["a red circle", "a red circle", "a blue star"]]
    longer = draw(painter, [*jobs, *plan(painter, suite, 1)], store, exact=True)
    assert longer.pictures[:3] == first.pictures[:3] and longer.drawn == 5


def test_a_judge_that_fails_once_leaves_one_picture_out_and_is_asked_for_it_again(tmp_path: Path) -> None:
    for name in "ab":
        Image.new("RGB", (32, 32), "teal").save(tmp_path / f"{name}.png")
    suite, store = suite_of(tmp_path, EDITS), Store(tmp_path / "store")
    broken = {"join them"}

    def reply(text: str, images: list[Image.Image]) -> str:
        return "no idea" if any(prompt in text for prompt in broken) else json.dumps({"semantics": 4, "quality": len(images) ** 2})

    from qi2.core.served import ServedVLM
    from qi2.evaluation.aggregate.registry import CRITERIA

    with serve(reply) as server:
        judge = VLMScorer(ServedVLM(server.url, "vlm"), "judge", CRITERIA["gedit"])
        first = evaluate_suite(Painter(), suite, judge, store, resamples=10)
        broken.clear()
        second = evaluate_suite(Painter(), suite, judge, store, resamples=10)
    assert (first.unanswered, second.unanswered, second.asked) == (1, 0, 1)
    assert first.figures["score"].value == 4.0  # sqrt(4 x 2^2)
    assert second.figures["score"].value == 5.0  # and sqrt(4 x 3^2), each the mean of its type


def test_a_server_that_refuses_is_not_asked_for_the_rest_and_what_it_answered_is_kept(tmp_path: Path) -> None:
    from qi2.core.served import ServedVLM

    rows = "\n".join(f"  - {{prompt: picture {i}, questions: [{{id: 1, question: Is it {i}}}]}}" for i in range(40))
    suite, store = suite_of(tmp_path, f"name: many\nscorer: vqa\naggregate: dpg\nprompts:\n{rows}\n"), Store(tmp_path / "store")
    with serve(lambda text, images: "yes") as server:
        scorer = VLMScorer(ServedVLM(server.url, "vlm", pause=0.01), "vqa")
        scorer.parallel = 1
        server.failures = [429, 401, *[401] * 100]
        with pytest.raises(QI2Error, match="HTTP 401"):
            evaluate_suite(Painter(batch=40), suite, scorer, store, resamples=10)
        assert len(server.failures) >= 98
        server.failures = []
        assert evaluate_suite(Painter(batch=40), suite, scorer, store, resamples=10).drawn.drawn == 0
        assert len(server.asked) == 40


def test_no_answer_at_all_is_an_error(tmp_path: Path) -> None:
    class Silent:
        name = identity = "silent"

        def answer(self, pictures: Sequence[Image.Image], row: Row) -> list[Answer | None]:
            return [None] * len(pictures)

    with pytest.raises(QI2Error, match="silent gave no answer"):
        evaluate_suite(Painter(), suite_of(tmp_path), Silent(), Store(tmp_path / "store"), resamples=10)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_run(tmp_path_factory.mktemp("runs") / "test", ("sft", "distill"))
    recipe = {"sampler": {"steps": 2, "guidance": 2.0, "few_steps": 2}, "encode": {"sizes": [64]}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def painted(run: Path, store: Store, **settings: Any) -> ModelPainter:
    values: dict[str, Any] = {"stage": "sft", "batch": 4, "device": "cpu", "dtype": "", "lora": "", "steps": None, "guidance": None}
    return open_painter(run, store=store, **(values | settings))


def test_the_command_evaluates_stages_on_suites_and_says_what_it_took(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite_of(tmp_path)
    command = [
        "evaluate",
        str(run),
        "--stage",
        "sft",
        "distill",
        "--suite",
        str(tmp_path / "suite.yaml"),
        "--store",
        str(tmp_path / "store"),
        "--resamples",
        "20",
    ]
    state = torch.get_rng_state()
    assert main([*command, "--out", str(tmp_path / "first"), "--price", "3.6"]) == 0
    shown = capsys.readouterr().out
    assert "sft on shapes (2 prompts x 2): geneval-protocol/world-checker" in shown and "drew 4 pictures" in shown and "USD" in shown
    assert main([*command, "--out", str(tmp_path / "second")]) == 0
    assert "drew none, reused 4" in capsys.readouterr().out
    first, second = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("first", "second"))
    assert first == second
    assert "suite/shapes/geneval-protocol/world-checker/score/distill" in first
    assert Image.open(tmp_path / "first" / "sheets" / "shapes.png").size[0] > 2 * 112
    results = json.loads((tmp_path / "first" / "results.json").read_text())["results"]
    assert [one["model"] for one in results] == ["sft", "distill"]
    assert results[0]["setting"]["schedule"]["steps"] == 2 and results[0]["scorer"] == WorldDetector.identity
    assert results[0]["spent"]["usd"] == pytest.approx(results[0]["spent"]["seconds"] / 1000)
    assert torch.equal(state, torch.get_rng_state())
    assert main(["evaluate", "store", "--store", str(tmp_path / "store")]) == 0
    assert capsys.readouterr().out.count("4 pictures") == 2


def test_the_same_model_gives_the_same_pictures_and_all_that_decides_them_is_in_the_key(run: Path, tmp_path: Path) -> None:
    store, suite = Store(tmp_path / "store"), suite_of(tmp_path)
    one = painted(run, store)
    jobs = plan(one, suite, 0)
    drawn = [[picture for part in painter.draw(jobs) for picture in part] for painter in (one, painted(run, store))]
    assert [a.tobytes() for a in drawn[0]] == [b.tobytes() for b in drawn[1]]
    others = [painted(run, store, steps=3), painted(run, store, guidance=1.5), painted(run, store, stage="distill"), painted(run, store, dtype="bfloat16")]
    assert len({json.dumps(dict(painter.facts), sort_keys=True) for painter in (one, painted(run, store), *others)}) == 5


def test_edits_are_drawn_from_their_references(run: Path, tmp_path: Path) -> None:
    for name, color in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (64, 64), color).save(tmp_path / f"{name}.png")
    painter = painted(run, Store(tmp_path / "store"))
    with serve(lambda text, images: json.dumps({"semantics": len(images), "quality": 9})) as server:
        from qi2.core.served import ServedVLM
        from qi2.evaluation.aggregate.registry import CRITERIA

        judge = VLMScorer(ServedVLM(server.url, "vlm"), "judge", CRITERIA["gedit"])
        result = evaluate_suite(painter, suite_of(tmp_path, EDITS), judge, Store(tmp_path / "store"), resamples=10)
    assert result.figures["semantics"].value == 2.5


def test_a_model_whose_sampler_is_unknown_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    for name in ("sft", "vae", "standins"):
        (tmp_path / "bare" / name).symlink_to(run / name)
    with pytest.raises(QI2Error, match=r"no recipe\.yaml"):
        painted(tmp_path / "bare", Store(tmp_path / "store"))


def test_wrong_words_say_what_to_write(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        ([str(run)], "say on which suite"),
        ([str(run), "other", "--suite", "x"], "one model at a time"),
        (["import", "geneval"], "write qi2 evaluate import geneval|dpg|longtext|identity PATH"),
        ([str(run), "--suite", "world-text", "--scorer", "reader=x"], "is not PROTOCOL=SCORER"),
        ([str(run), "--suite", "world-tex"], "did you mean world-text"),
    ):
        assert main(["evaluate", *words]) == 1
        assert message in capsys.readouterr().err
