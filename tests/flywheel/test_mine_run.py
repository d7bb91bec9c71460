"""Mining in a run spends its budget on new training prompts, leaves held-out ones out, says what it cost, and does not take a reward's error for a failure."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qi2.cli import main
from qi2.config import load
from qi2.core.errors import QI2Error
from qi2.flywheel.collect.mined import allowed, by_test, called_right, mine_run, sentence, training_prompts, tried
from qi2.flywheel.signals import Signal
from qi2.flywheel.store import SignalStore
from qi2.recipe import Recipe, scale_layers
from qi2.rewards.config import RewardArchitecture
from qi2.rewards.heads import RewardModel
from qi2.rlhf.prompts import Prompt
from tests.evaluation.untrained import build_run
from tests.flywheel.retrieval_world import make_raw


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained models, one reward among them, that never draw what was asked."""
    import torch

    from qi2.models.condition import ConditionEncoder

    folder = build_run(tmp_path_factory.mktemp("mined") / "smoke", ("sft",))
    encoder = ConditionEncoder.load(folder / "standins" / "vlm")
    reward = RewardModel(RewardArchitecture("aesthetic", size=64, width=32, layers=1, heads=2), encoder.model.model.visual, encoder.width)
    torch.nn.init.normal_(reward.head.score.weight)
    reward.save(folder / "rewards" / "aesthetic")
    make_raw(folder / "raw", 20)
    return folder


def recipe(prompts: int = 24, **more: Any) -> Recipe:
    changes = {"flywheel": {"mining": {"prompts": prompts, **more}}, "evaluate": {"chain_steps": 2}, "sampler": {"steps": 2}}
    return load(Recipe, [*scale_layers(Path("conf"), "smoke"), changes])


def test_a_round_mines_within_its_budget_and_says_what_it_found_and_cost(run: Path, tmp_path: Path) -> None:
    store = SignalStore(tmp_path)
    mined = mine_run(recipe(pictures=2, least=4, low=0.5), run, store, 1)
    assert (mined.model, mined.left_out) == ("sft", 0) and mined.prompts <= 24 and mined.pictures == 2 * mined.prompts
    assert len({signal.prompt for signal in mined.signals}) > mined.prompts / 2 and all(signal.trainable and signal.truth for signal in mined.signals)
    assert {signal.task for signal in mined.signals} == {"t2i", "ti2i"} and sum(tried(mined.signals).values()) == mined.pictures
    facts = mined.to_json() | {"new": store.add(mined.signals)}
    assert facts["found"] == len(mined.signals) == facts["new"] and facts["tests"]["checker"][0] == facts["tests"]["checker"][2]
    assert f"{mined.pictures} pictures of {mined.prompts} training prompts with sft" in sentence(facts) and "low reward" in sentence(facts)


def test_the_same_round_mines_the_same_and_another_one_other_prompts(run: Path, tmp_path: Path) -> None:
    store = SignalStore(tmp_path)
    first, again, other = ([signal.id for signal in mine_run(recipe(11), run, store, number).signals] for number in (1, 1, 2))
    assert first == again and not set(first) & set(other)


def test_without_a_budget_nothing_is_mined(run: Path, tmp_path: Path) -> None:
    with pytest.raises(QI2Error, match="no budget"):
        mine_run(recipe(0), run, SignalStore(tmp_path), 1)


def test_what_is_held_out_or_given_for_diagnosis_only_is_never_mined(run: Path, tmp_path: Path) -> None:
    store = SignalStore(tmp_path)
    prompts = [prompt for prompt in training_prompts(recipe(), run, 5) if not prompt.sources][:4]
    assert allowed(prompts, run, store) == prompts
    measures = Signal("evaluation", "t2i", "one", prompts[0].text.upper(), "sft", heldout=True)
    persons = Signal("feedback", "t2i", "one", prompts[1].text, "sft", consent="diagnosis", subject="anna")
    store.add([measures, persons])
    assert allowed([*prompts, Prompt("mine", "a red star")], run, store) == prompts[2:]


def mined_signal(right: bool, tests: tuple[str, ...], count: int = 7, seed: int = 1) -> Signal:
    verdict = {"attributes": {"count": right}, "tests": list(tests)}
    return Signal("mining", "t2i", "one", f"a {right} {tests}", "sft", verdict, "{}", seed=seed, provenance={"seed": 3, "tried": {"t2i/one": count}})


def test_a_reward_that_dislikes_a_right_picture_is_the_rewards_error() -> None:
    found = [mined_signal(True, ("low",)), mined_signal(False, ("checker", "low")), mined_signal(False, ("checker",))]
    assert [called_right(signal) for signal in found] == [True, False, False]
    assert not called_right(replace(found[0], source="evaluation")) and not called_right(replace(found[0], verdict={"tests": ["low"]}))
    assert {name: (len(own), known, wrong) for name, (own, known, wrong) in by_test(found).items()} == {"checker": (2, 2, 2), "low": (2, 2, 1)}
    other = replace(found[0], provenance={"seed": 4, "tried": {"t2i/one": 1, "ti2i/edit/move": 5}})
    assert tried([*found, other]) == {("t2i", "one"): 8, ("ti2i", "edit/move"): 5}


def test_the_command_keeps_what_it_finds(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["flywheel", "mine", str(run), "--prompts", "8", "--store", str(tmp_path), "--set", "evaluate.chain_steps=2", "sampler.steps=2"]
    assert main(words) == 0 and "bad cases" in capsys.readouterr().out
    assert SignalStore(tmp_path).all() and main([*words, "--json"]) == 0 and '"new": 0' in capsys.readouterr().out
