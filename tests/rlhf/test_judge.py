"""The guards against over-optimisation."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from qi2.core.errors import QI2Error
from qi2.core.reporter import FileReporter, NullReporter
from qi2.models.config import SamplerConfig
from qi2.models.mmdit import MMDiT
from qi2.rlhf.config import JudgeConfig, PromptsConfig, RolloutConfig
from qi2.rlhf.judge import EarlyStop, Verdict, diversity
from qi2.rlhf.scoring import RolloutSample
from qi2.rlhf.train import build, train_rlhf
from qi2.training.config import EngineConfig
from tests.rlhf.test_rlhf_training import Recipe, inputs, redness, settings, weights


def truth(*means: float) -> Tensor:
    """Four prompts with two samples each, whose means are given."""
    return torch.tensor(means)[:, None] + torch.tensor([[-0.1, 0.1]])


def verdict(judged: Tensor, diversity: float = 1.0, kl: float = 0.0) -> Verdict:
    return Verdict({}, judged, diversity, kl)


@pytest.fixture
def network(small_world: Any) -> MMDiT:
    return MMDiT.load(small_world.model).requires_grad_(True)


def test_diversity_by_hand() -> None:
    """Three samples of four values at 0, 3 and 6: distances 3, 3 and 6 per value; the second group's are all alike."""
    x0 = torch.tensor([[0.0, 3.0, 6.0], [1.0, 1.0, 1.0]])[:, :, None, None, None].expand(2, 3, 1, 2, 2)
    assert diversity(x0) == pytest.approx((4 + 0) / 2)


def test_run_ends_where_the_judge_falls_by_more_than_chance_and_the_best_policy_is_kept(network: MMDiT) -> None:
    stop = EarlyStop(JudgeConfig(group=2, fall=3.0), network, 4)
    assert stop(verdict(truth(0.5, 0.5, 0.5, 0.5)), network, 0) == ""
    assert stop(verdict(truth(0.7, 0.6, 0.8, 0.7)), network, 10) == ""
    best = network.proj_out.weight.detach().clone()
    with torch.no_grad():
        network.proj_out.weight.add_(1)
    uncertain = truth(0.9, 0.2, 0.9, 0.7)  # mean -0.025, error 0.12
    assert stop(verdict(uncertain), network, 20) == ""
    reason = stop(verdict(truth(0.4, 0.3, 0.4, 0.4)), network, 30)
    assert reason.startswith("the judge exact fell from 0.700 at step 10 to 0.375")
    assert stop.give(network) == 10
    assert torch.equal(network.proj_out.weight, best)


def test_prompts_that_the_judge_cannot_score_do_not_count(network: MMDiT) -> None:
    stop = EarlyStop(JudgeConfig(group=2), network, 4)
    missing = torch.full((1, 2), torch.nan)
    assert stop(verdict(torch.cat([truth(0.5, 0.5, 0.6), missing])), network, 0) == ""
    assert "fell" in stop(verdict(torch.cat([truth(0.1, 0.2, 0.1), missing])), network, 1)


def test_run_ends_where_samples_of_a_prompt_become_alike(network: MMDiT) -> None:
    stop = EarlyStop(JudgeConfig(group=2, diversity=0.5), network, 4)
    same = truth(0.5, 0.5, 0.5, 0.5)
    assert stop(verdict(same, diversity=2.0), network, 0) == ""
    assert stop(verdict(same, diversity=1.1), network, 1) == ""
    assert "0.45 times as far apart" in stop(verdict(same, diversity=0.9), network, 2)


def test_run_ends_where_the_policy_is_too_far_from_its_start(network: MMDiT) -> None:
    stop = EarlyStop(JudgeConfig(group=2, kl=0.1), network, 4)
    same = truth(0.5, 0.5, 0.5, 0.5)
    assert stop(verdict(same, kl=0.1), network, 0) == ""
    assert "the policy is 0.11 from its start" in stop(verdict(same, kl=0.11), network, 1)


def test_a_judge_that_is_a_reward_is_refused(small_world: Any) -> None:
    config = settings(rewards={"exact": 1.0}, judge=JudgeConfig(steps=3, every=1))
    with pytest.raises(QI2Error, match="is one of the rewards"):
        build(Recipe(rlhf=config), inputs(small_world), {})


def test_a_judge_that_can_score_nothing_is_refused(small_world: Any) -> None:
    config = settings(judge=JudgeConfig(steps=3, every=1, scorer="nothing", prompts=4, group=2))
    scorers = {"redness": redness, "nothing": lambda samples: torch.full((len(samples),), torch.nan)}
    module = build(Recipe(rlhf=config), inputs(small_world), scorers)
    with pytest.raises(QI2Error, match="applies to none of the held-out prompts"):
        module.look(0)


def test_judgements_of_one_policy_are_the_same_and_use_other_prompts_than_training(small_world: Any) -> None:
    config = settings(judge=JudgeConfig(steps=3, every=1, prompts=12, group=2))
    module = build(Recipe(rlhf=config), inputs(small_world), {"redness": redness})
    assert module.judge is not None
    first, again = module.judge(module.model, module.reference), module.judge(module.model, module.reference)
    assert torch.equal(first.rewards["redness"], again.rewards["redness"])
    assert first.kl == 0
    assert not {prompt.text for prompt in module.judge.prompts} & {prompt.text for prompt in module.pool.prompts}
    assert {prompt.kind for prompt in module.judge.prompts} == set(module.pool.kinds)


def test_judge_draws_as_the_model_will_be_used_and_not_as_rollouts_are(small_world: Any) -> None:
    config = settings(judge=JudgeConfig(every=1, prompts=4, group=2), rollout=RolloutConfig(prompts=2, group=4, steps=3, guidance=1.0))
    for judge, steps in ((config.judge, 7), (replace(config.judge, steps=5), 5)):
        recipe = Recipe(rlhf=replace(config, judge=judge), sampler=SamplerConfig(steps=7, guidance=3.0))
        module = build(recipe, inputs(small_world), {"redness": redness})
        assert module.judge is not None
        assert (len(module.judge.sampler.times), module.judge.sampler.config.guidance) == (steps + 1, 3.0)
        assert (len(module.sampler.times), module.sampler.config.guidance) == (4, 1.0)


def moderation(samples: Sequence[RolloutSample]) -> Tensor:
    """What is really wanted, of which redness is a poor measure: a little more red than green, by 10 of 255, and no more."""
    return 1 - (redness(samples) - 10).abs() / 20


def hacked(small_world: Any, out: Path, judge: JudgeConfig) -> dict[str, Any]:
    """A policy trained on a reward that has nothing to do with what is asked for."""
    prompts = PromptsConfig(source="world", pool=40, edit_share=0.0)
    rollout = RolloutConfig(prompts=6, group=8, steps=3, guidance=1.5)
    config = settings(steps=32, supervised=0.0, prompts=prompts, rollout=rollout, judge=judge, rewards={"redness": 1.0})
    train_rlhf(Recipe(rlhf=config), inputs(small_world), {"redness": redness, "moderation": moderation}, out, NullReporter())
    found: dict[str, Any] = json.loads((out / "judgements.json").read_text())
    return found


def test_with_the_guards_off_the_reward_rises_while_the_truth_falls_and_with_them_the_run_stops_and_keeps_the_best(small_world: Any, tmp_path: Path) -> None:
    watched = JudgeConfig(steps=3, scorer="moderation", every=4, prompts=10, group=2, fall=0.0, diversity=0.0)
    off = hacked(small_world, tmp_path / "off", watched)
    first, last = off["judgements"][0], off["judgements"][-1]
    assert off["ended"] == ""
    assert last["step"] == 32
    assert last["judge/reward/redness"] > first["judge/reward/redness"] + 8
    assert last["judge/truth"] < first["judge/truth"] - 0.1
    guarded = hacked(small_world, tmp_path / "on", JudgeConfig(steps=3, scorer="moderation", every=4, prompts=10, group=2))
    assert "the judge moderation fell" in guarded["ended"]
    assert guarded["judgements"][-1]["step"] < 32
    best = max(guarded["judgements"], key=lambda judgement: judgement["judge/truth"])
    assert best["step"] > 0
    assert best["judge/truth"] > first["judge/truth"]
    assert json.loads((tmp_path / "on" / "metrics.json").read_text())["rlhf/best_step"] == best["step"]
    assert "rlhf ended after step" in (tmp_path / "on" / "ended.txt").read_text()


def test_killed_run_with_a_judge_goes_on_exactly_and_ends_at_the_same_step(small_world: Any, tmp_path: Path) -> None:
    judge = JudgeConfig(steps=3, scorer="moderation", every=2, prompts=6, group=2, fall=0.0, kl=0.01)
    config = settings(steps=12, old_decay=0.5, average=0.5, supervised=0.0, judge=judge)
    recipe, calls = Recipe(rlhf=config, engine=EngineConfig(checkpoint_steps=1)), 0
    train_rlhf(recipe, inputs(small_world), {"redness": redness, "moderation": moderation}, tmp_path / "whole", NullReporter())

    def killed(samples: Sequence[RolloutSample]) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return redness(samples)

    for scorer in (killed, redness):
        try:
            train_rlhf(recipe, inputs(small_world, tmp_path / "ckpt"), {"redness": scorer, "moderation": moderation}, tmp_path / "resumed", NullReporter())
        except (KeyboardInterrupt, SystemExit):
            assert not (tmp_path / "resumed").exists()
    assert calls == 6
    assert json.loads((tmp_path / "resumed" / "judgements.json").read_text())["ended"].startswith("the policy is")
    for name in ("judgements.json", "curves.csv"):
        assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert weights(tmp_path / "resumed") == weights(tmp_path / "whole")


def test_what_is_judged_and_handed_on_is_the_average_where_one_is_kept(small_world: Any, tmp_path: Path) -> None:
    plain, averaged = (settings(average=decay, judge=JudgeConfig(steps=3, every=4, prompts=4, group=2, fall=0.0)) for decay in (0.0, 0.99))
    moved = []
    for name, config in (("plain", plain), ("averaged", averaged)):
        train_rlhf(Recipe(rlhf=config), inputs(small_world), {"redness": redness}, tmp_path / name, NullReporter())
        moved.append(json.loads((tmp_path / name / "judgements.json").read_text())["judgements"][-1]["judge/kl"])
    assert 0 < moved[1] < moved[0]


def test_pictures_of_the_same_prompts_before_and_now_are_drawn_over_the_run(small_world: Any, tmp_path: Path) -> None:
    module = build(Recipe(rlhf=settings(judge=JudgeConfig(steps=3, every=2, prompts=12, group=2))), inputs(small_world), {"redness": redness})
    sheet = module.picture()
    assert sheet is not None
    assert (sheet.width % 64, sheet.height % 64) == (0, 0)
    box = sheet.crop((0, sheet.height - 128, sheet.width, sheet.height - 64)), sheet.crop((0, sheet.height - 64, sheet.width, sheet.height))
    assert np.array_equal(*(np.asarray(row) for row in box))
    train_rlhf(
        Recipe(rlhf=module.config, engine=EngineConfig(pictures=2)), inputs(small_world), {"redness": redness}, tmp_path / "out", FileReporter(tmp_path / "log")
    )
    assert [path.name for path in sorted((tmp_path / "out" / "images").iterdir())] == ["samples_fixed@2.png", "samples_fixed@4.png"]
