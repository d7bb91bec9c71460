"""What the RL and the prompt track change: bounded, reasoned, and nothing where nothing failed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from qi2.data.world.scene import Object, Scene
from qi2.flywheel.attribution.cases import Case, counted
from qi2.flywheel.attribution.decide import Decision
from qi2.flywheel.config import PromptTrackConfig, RLTrackConfig
from qi2.flywheel.retrieval.leaks import HeldOut
from qi2.flywheel.tracks import prompts, rl
from qi2.rlhf.config import RLHFConfig

BOUNDS = RLTrackConfig()
SCENE = Scene("count", objects=(Object("circle", "red", 0, 0), Object("circle", "red", 0, 1)))


def decisions(track: str, *cases: Case) -> list[Decision]:
    return [Decision(case.id, track, {"own": {"wordings": {"a red circle at the top left": [7, 8]}}}, "why.") for case in cases]


def by_id(*cases: Case) -> dict[str, Case]:
    return {case.id: case for case in cases}


def counting(n: int, failed: tuple[str, ...] = ("count",)) -> list[Case]:
    return [Case(f"c{i}", "t2i", "count", "two red circles", failed, SCENE) for i in range(n)]


def test_without_rl_failures_nothing_is_changed() -> None:
    cases = counting(3)
    change = rl.adjust(decisions("none", *cases), by_id(*cases), RLHFConfig(), RLHFConfig(), BOUNDS)
    assert change == rl.Adjustment()


def test_failed_kinds_are_asked_more_often_within_bounds() -> None:
    cases, start = counting(8), RLHFConfig()
    change = rl.adjust(decisions("rl", *cases), by_id(*cases), start, start, BOUNDS)
    kinds = change.overrides["rlhf.prompts.kinds"]
    assert kinds == {**start.prompts.kinds, "count": 4.0}
    assert any("count" in reason for reason in change.reasons)


def test_rounds_together_stay_below_the_total() -> None:
    cases, first, now = counting(8), RLHFConfig(), RLHFConfig()
    for _ in range(5):
        change = rl.adjust(decisions("rl", *cases), by_id(*cases), now, first, BOUNDS)
        now.prompts.kinds = change.overrides.get("rlhf.prompts.kinds", now.prompts.kinds)
    assert now.prompts.kinds["count"] == BOUNDS.total * first.prompts.kinds["count"]


def test_a_reward_that_sees_what_failed_gets_its_share() -> None:
    cases, blind = counting(8), RLHFConfig(rewards={"aesthetic": 1.0, "checker": 0.0})
    change = rl.adjust(decisions("rl", *cases), by_id(*cases), blind, blind, BOUNDS)
    assert change.overrides["rlhf.rewards"] == {"aesthetic": 1.0, "checker": 1.0}
    assert any("sees count" in reason for reason in change.reasons)


def test_a_reward_that_sees_it_already_is_left_alone() -> None:
    cases, seeing = counting(8), RLHFConfig(rewards={"aesthetic": 0.05, "checker": 1.0})
    change = rl.adjust(decisions("rl", *cases), by_id(*cases), seeing, seeing, BOUNDS)
    assert "rlhf.rewards" not in change.overrides


def test_without_a_truth_the_learned_rewards_are_raised() -> None:
    cases = [Case(f"u{i}", "t2i", "user", "a dog on a sofa") for i in range(6)]
    own = RLHFConfig(rewards={"aesthetic": 1.0, "alignment": 0.2})
    change = rl.adjust(decisions("rl", *cases), by_id(*cases), own, own, BOUNDS)
    assert change.overrides["rlhf.rewards"] == {"aesthetic": 1.0, "alignment": 1.0}


def said(n: int, new: str, meant: str, heldout: bool = False) -> list[tuple[Case, str]]:
    colours = ("red", "blue", "green", "cyan", "purple")
    return [
        (Case(f"{new}{i}", "t2i", "one", f"a {colours[i % 5]} {new} up there", heldout=heldout), f"a {colours[i % 5]} {meant} at the top") for i in range(n)
    ]


def held(*texts: str, world: bool = False) -> HeldOut:
    found = HeldOut(world)
    for text in texts:
        found.text(text)
    return found


def learn(pairs: list[tuple[Case, str]], least: int = 3, heldout: HeldOut | None = None) -> prompts.Wordings:
    found = [Decision(case.id, "prompt", {"own": {"wordings": {fine: [8, 8]}}}, "why.") for case, fine in pairs]
    known = counted(["a red blue green cyan purple circle or square at the top up there"])
    return prompts.learn(found, by_id(*(case for case, _ in pairs)), known, PromptTrackConfig(least=least), lambda: heldout or HeldOut())


def test_new_words_are_aligned_with_what_they_mean() -> None:
    found = learn([*said(6, "orb", "circle"), *said(6, "tile", "square")])
    assert found.phrases == {"circle": ["orb"], "square": ["tile"]}
    fine = {"reasoning": "orb is circle", "fine": "a red circle at the top"}
    assert found.examples[0] == {"signal": "orb0", "task": "t2i", "short": "a red orb up there", **fine}


def test_a_word_that_too_few_failures_agree_on_is_no_strategy() -> None:
    found = learn([*said(8, "orb", "circle"), *said(8, "tile", "square"), *said(2, "delta", "triangle")])
    assert found.phrases == {"circle": ["orb"], "square": ["tile"]}


def test_one_new_word_alone_could_mean_anything_and_gives_an_example_only() -> None:
    found = learn(said(6, "orb", "circle"))
    assert found.phrases == {}
    assert len(found.examples) == 6


def test_articles_mean_nothing() -> None:
    pairs = [(replace(case, prompt=f"an {case.prompt}"), f"{fine} background") for case, fine in said(8, "orb", "circle")] + said(8, "tile", "square")
    assert not any("an" in words for words in learn(pairs).phrases.values())


def test_of_wordings_that_succeed_the_nearest_is_the_example() -> None:
    tried = {"at the top a red circle": [8, 8], "a red circle up there": [7, 8], "a red circle there": [2, 8]}
    case = Case("x", "t2i", "one", "a red orb up there")
    found = prompts.learn([Decision("x", "prompt", {"own": {"wordings": tried}}, "why.")], by_id(case), None, PromptTrackConfig(), HeldOut)
    assert found.examples[0]["fine"] == "a red circle up there"


def test_prompts_of_a_heldout_suite_or_without_consent_teach_neither_examples_nor_words() -> None:
    pairs = [*said(6, "orb", "circle", heldout=True), *said(6, "tile", "square", heldout=True)]
    assert learn(pairs) == prompts.Wordings()


@pytest.mark.parametrize(
    "heldout",
    [held("A red orb, up there!"), held("up there: red orb"), held("a red circle at the top")],
    ids=["the prompt", "its words", "the wording that succeeds"],
)
def test_what_says_a_held_out_prompt_again_is_no_example_and_is_counted(heldout: HeldOut) -> None:
    found = learn(said(4, "orb", "circle"), heldout=heldout)
    assert [example["signal"] for example in found.examples] == ["orb1", "orb2", "orb3"]
    assert found.reasons[-1] == "1 failing prompts teach the enhancer nothing: they, or the wording that succeeds, are held out."


def test_what_names_a_combination_that_the_split_holds_out_teaches_no_word_either() -> None:
    pairs = [
        (Case(f"{new}{i}", "t2i", "one", f"a ruby {new} up there"), f"a red {fine} up there")
        for new, fine in (("spark", "star"), ("tile", "square"))
        for i in range(8)
    ]
    free = [pair for pair in pairs if "star" not in pair[1]]
    found = learn(pairs, heldout=held(world=True))
    assert found.phrases == learn(free).phrases and len(found.examples) == 8 and not any("star" in example["fine"] for example in found.examples)
    assert learn(pairs).phrases == {"square": ["tile"], "star": ["spark"]}


def test_an_instruction_is_no_prompt_and_stays_an_example() -> None:
    case = Case("e", "ti2i", "edit/user", "make the orb blue")
    assert learn([(case, "make the circle blue")], heldout=held("make the orb blue")).examples


def test_writing_the_same_again_adds_nothing(tmp_path: Path) -> None:
    found = learn([*said(6, "orb", "circle"), *said(6, "tile", "square")])
    overrides = prompts.write(found, tmp_path, HeldOut)
    before = [path.read_text() for path in sorted(tmp_path.iterdir())]
    assert prompts.write(found, tmp_path, HeldOut) == overrides
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == before
    assert json.loads((tmp_path / "wordings.json").read_text()) == {"circle": ["orb"], "square": ["tile"]}
    assert prompts.write(prompts.Wordings(), tmp_path, HeldOut) == {}


def test_examples_of_deleted_signals_leave_the_file(tmp_path: Path) -> None:
    prompts.write(learn([*said(4, "orb", "circle"), *said(4, "tile", "square")]), tmp_path, HeldOut)
    prompts.write(prompts.Wordings(), tmp_path, HeldOut, {"orb1", "tile2"})
    assert [json.loads(line)["signal"] for line in (tmp_path / "examples.jsonl").read_text().splitlines()] == ["orb1", "tile2"]


def test_examples_that_are_held_out_by_now_leave_the_file_and_are_counted(tmp_path: Path) -> None:
    prompts.write(learn(said(4, "orb", "circle")), tmp_path, HeldOut)
    later = prompts.Wordings()
    prompts.write(later, tmp_path, lambda: held("a red orb up there", "a blue circle at the top"), {"orb0", "orb1", "orb2"})
    assert [json.loads(line)["signal"] for line in (tmp_path / "examples.jsonl").read_text().splitlines()] == ["orb2"]
    assert later.reasons == ["2 examples of earlier rounds are held out now and were taken from the enhancer."]
