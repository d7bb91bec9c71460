"""The tests of attribution are run on a model: all of them, with the same noise, judged by the truth; and the threshold where there is none."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.data.shards import ShardWriter, Sidecar
from qi2.data.world.render import render
from qi2.data.world.scene import Object, Scene
from qi2.evaluation.config import EvaluateConfig
from qi2.evaluation.suites.world import edit_suite, t2i_suite
from qi2.flywheel.attribution import judges, probes
from qi2.flywheel.attribution.cases import Case, from_signals
from qi2.flywheel.attribution.diagnose import judge_of
from qi2.flywheel.attribution.rewording import WorldWordings
from qi2.flywheel.config import FlywheelConfig, ProbesConfig
from qi2.models.config import SamplerConfig
from qi2.rewards.score import RewardModels
from tests.evaluation.untrained import EVALUATE, build_run
from tests.flywheel.retrieval_world import make_raw, row, scenes


@dataclass
class Recipe:
    """The part of a recipe that attribution reads."""

    seed: int = 3
    evaluate: EvaluateConfig = field(default_factory=lambda: EVALUATE)
    sampler: SamplerConfig = field(default_factory=lambda: SamplerConfig(steps=2, guidance=2.0, edit_guidance=1.0, few_steps=2))
    flywheel: FlywheelConfig = field(default_factory=lambda: FlywheelConfig(probes=ProbesConfig(samples=3, variant=2, paraphrases=2, each=1)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("probed"), ("sft", "rlhf", "distill"))


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    t2i = [Case(item.id, "t2i", item.kind, item.prompt, ("count",), item.scene) for item in t2i_suite(EVALUATE)[:3]]
    edits = [Case(item.id, "ti2i", f"edit/{item.kind}", item.prompt, ("done",), item.edit, tuple(item.references(64))) for item in edit_suite(EVALUATE)[:2]]
    return [*t2i, *edits]


def test_every_test_is_run_on_every_failure(run: Path, cases: list[Case]) -> None:
    recipe = Recipe()
    found = probes.run(recipe, cases, probes.Painter(recipe, run, "rlhf"), judges.Judged(), WorldWordings(2, 0))
    assert [item.case for item in found] == cases
    for item in found:
        own = {name: tally.tried for name, tally in item.tallies.items()}
        assert own.pop("reworded") == len(item.wordings) > 0
        assert item.case.prompt not in item.wordings
        assert own == {"own": 3, "low": 2, "high": 2, "steps": 2, "before": 2} if item.case.task == "t2i" else {"own": 3, "high": 2, "steps": 2, "before": 2}


def test_the_same_tests_give_the_same_pictures_whatever_is_drawn_beside_them(run: Path, cases: list[Case]) -> None:
    recipe, painter = Recipe(), probes.Painter(Recipe(), run, "sft")
    alone = painter(cases[:1], probes.plan(recipe, cases[:1], painter.variants, [[]], [""]))
    shots = probes.plan(recipe, cases, painter.variants, [[] for _ in cases], ["" for _ in cases])
    together = [picture for shot, picture in zip(shots, painter(cases, shots), strict=True) if shot.case == 0]
    assert all(np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 2 for a, b in zip(alone, together, strict=True))


def test_a_students_guidance_is_asked_of_its_teacher(run: Path) -> None:
    painter = probes.Painter(Recipe(), run)
    assert painter.name == "distill"
    assert painter.sampler("own").folder.name == "distill"
    assert painter.sampler("high").folder.name == "rlhf"
    assert painter.sampler("high").guidance == 4.0
    assert painter.sampler("before").folder.name == "sft"


def test_a_model_that_was_not_trained_is_named(run: Path) -> None:
    with pytest.raises(QI2Error, match=r"flywheel\.probes\.model"):
        probes.Painter(Recipe(), run, "pretrain")


def test_the_enhancers_rewrite_is_tried_where_it_changes_the_prompt(cases: list[Case]) -> None:
    shots = probes.plan(Recipe(), cases[:2], (), [[], []], ["a better prompt", ""])
    assert [(shot.case, shot.prompt) for shot in shots if shot.probe == "enhanced"] == [(0, "a better prompt")] * 3


def test_a_right_picture_is_judged_right_and_a_wrong_one_wrong() -> None:
    red, blue = (Scene("one", objects=(Object("circle", colour, 0, 0),)) for colour in ("red", "blue"))
    case = Case("x", "t2i", "one", "a red circle at the top left", (), red)
    assert judges.Judged()([(case, render(red, 64)), (case, render(blue, 64))]) == [True, False]


def test_without_a_truth_the_calibrated_reward_judges() -> None:
    threshold = judges.calibrate([0.9, 0.8, 0.7, 0.2], [0.1, 0.3, 0.0, 0.1])
    assert threshold.value == pytest.approx(0.15)  # any from .1 to .2 or from .3 to .7 is as good
    assert threshold.error == pytest.approx(0.125)
    case, picture = Case("x", "t2i", "user", "a dog"), Image.new("RGB", (8, 8))
    judged = judges.Judged(lambda shown: [0.9, 0.1], {"t2i": threshold})
    assert judged([(case, picture), (case, picture)]) == [True, False]
    with pytest.raises(QI2Error, match="make reproduce STAGE=rewards"):
        judges.Judged()([(case, picture)])
    with pytest.raises(QI2Error, match="make reproduce STAGE=rewards"):
        judged([(Case("y", "ti2i", "user", "make it blue", references=(picture,)), picture)])


class Rewards:
    """Scores 2 more where the prompt is a picture's own; the alignment reward lies 3 above the instruction reward."""

    def __init__(self, raw: Path) -> None:
        side = Sidecar.load(raw)
        self.own = {side.image(row["id"]).tobytes(): set(row["captions"]) for row in side.table.to_dict("records")}

    def score(self, name: str, prompts: list[str], images: list[Image.Image], sources: object = None) -> torch.Tensor:
        assert (sources is not None) is (name == "instruction")
        right = [prompt in self.own[image.tobytes()] for prompt, image in zip(prompts, images, strict=True)]
        return torch.tensor(right) * 2.0 + {"alignment": 3.0, "instruction": 0.0}[name]


def test_every_task_is_judged_against_its_own_rewards_threshold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_raw(tmp_path / "raw", 20)
    (tmp_path / "rewards").mkdir()
    monkeypatch.setattr(RewardModels, "load", lambda *given: Rewards(tmp_path / "raw"))
    side, recipe = Sidecar.load(tmp_path / "raw"), Recipe()
    rows = {row["id"]: row for row in side.table.to_dict("records")}
    shown = []
    for name, task in (("world-0", "t2i"), ("edit-0", "ti2i")):
        references = tuple(side.image(one) for one in rows[name]["references"])
        for prompt in (rows[name]["captions"][0], "something else"):
            shown.append((Case(f"{name} {prompt}", task, "user", prompt, references=references), side.image(name)))
    for own in (shown, shown[:2], shown[2:]):
        judge = judge_of(recipe, tmp_path, [case for case, _ in own])  # type: ignore[arg-type]
        assert judge(own) == [True, False] * (len(own) // 2) and set(judge.thresholds) == {case.task for case, _ in own}


def test_a_task_without_training_pairs_has_no_threshold_and_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ShardWriter(tmp_path / "raw") as writer:
        writer.add(row("world-0", scenes(1, "pairs", lambda scene: True)[0]))
    (tmp_path / "rewards").mkdir()
    monkeypatch.setattr(RewardModels, "load", lambda *given: Rewards(tmp_path / "raw"))
    edit = Case("e", "ti2i", "user", "make it blue", references=(Image.new("RGB", (8, 8)),))
    with pytest.raises(QI2Error, match=r"no training pair of task ti2i.*flywheel\.sources"):
        judge_of(Recipe(), tmp_path, [edit])  # type: ignore[arg-type]


def test_neighbours_are_compared_with_those_of_ordinary_prompts(cases: list[Case]) -> None:
    from qi2.flywheel.attribution.cases import Evidence

    evidence = [Evidence(case) for case in cases[:2]]
    probes.add_neighbours(evidence, lambda prompts, k: [[1.0, 0.9, 0.8][:k] for _ in prompts], ["one", "two"], 2)
    assert evidence[0].neighbours == (1.0, 0.9)
    assert evidence[0].usual == pytest.approx((0.85, 0.85))  # the prompt itself is left out


def test_a_prompt_that_fails_twice_is_tested_once() -> None:
    @dataclass
    class Fake:
        id: str
        task: str = "t2i"
        kind: str = "one"
        prompt: str = "a red circle"
        truth: str = ""
        verdict: dict = field(default_factory=lambda: {"attributes": {"count": False, "shape": True, "all": False}})  # type: ignore[type-arg]
        references: tuple[str, ...] = ()
        trainable: bool = True

    found = from_signals([Fake("a"), Fake("b"), Fake("c", prompt="a blue circle")], lambda name: Image.new("RGB", (8, 8)))
    assert [(case.id, case.failed) for case in found] == [("a", ("count",)), ("c", ("count",))]
