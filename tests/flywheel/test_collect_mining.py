"""Mining finds the bad pictures of training prompts, says why, and touches nothing that is held out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.data.world.degrade import degrade
from qi2.data.world.edits import sample_edit
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.flywheel.collect.mining import mine
from qi2.flywheel.config import MiningConfig
from qi2.flywheel.store import SignalStore
from qi2.rlhf.config import PromptsConfig
from qi2.rlhf.prompts import Prompt, world_prompts
from qi2.rlhf.scoring import RolloutSample, checker

SIZE = 64


class Hand:
    """Draws what the truth says, but every ``miss``-th picture wrong."""

    name, weights = "sft", "ab" * 32

    def __init__(self, prompts: Sequence[Prompt], miss: int = 4) -> None:
        self.truths, self.miss, self.drawn = {prompt.text: prompt for prompt in prompts}, miss, 0

    def __call__(self, prompts: Sequence[str], references: Sequence[Sequence[Image.Image]], seeds: Sequence[int]) -> list[Image.Image]:
        return [self._one(self.truths[text], seed) for text, seed in zip(prompts, seeds, strict=True)]

    def _one(self, prompt: Prompt, seed: int) -> Image.Image:
        self.drawn += 1
        wrong, rng = self.drawn % self.miss == 0, np.random.default_rng(seed)
        if prompt.sources:
            return degrade(prompt.truth, rng, "instruction", SIZE)[1].convert("RGB") if wrong else render(prompt.truth.target, SIZE).convert("RGB")
        if prompt.truth is None:
            return Image.new("RGB", (SIZE, SIZE), (int(rng.integers(256)),) * 3)
        return degrade(prompt.truth, rng, "alignment", SIZE)[1].convert("RGB") if wrong else render(prompt.truth, SIZE).convert("RGB")


def training_prompts(n: int = 40) -> list[Prompt]:
    config = PromptsConfig(pool=n, kinds={"two": 1.0, "text": 1.0}, edit_kinds={"recolor": 1.0}, edit_share=0.25)
    return list({prompt.text: prompt for prompt in world_prompts(config, SIZE, 3).prompts}.values())


def test_wrong_pictures_are_found_with_what_was_wrong(tmp_path: Path) -> None:
    prompts, store = training_prompts(), SignalStore(tmp_path)
    found = mine(prompts, Hand(prompts), {"checker": checker}, store, MiningConfig())
    assert found and len(found) <= len(prompts) // 4
    for signal in found:
        assert any(why.startswith("the checker finds") for why in signal.verdict["why"]) and not signal.heldout and signal.trainable
        assert signal.truth and store.picture(signal.picture).size == (SIZE, SIZE) and signal.verdict["reward"]["checker"] < 1
        assert (signal.task == "ti2i") == bool(signal.references) == signal.kind.startswith("edit/")
    assert {signal.task for signal in found} == {"t2i", "ti2i"}


def test_mining_is_a_function_of_its_seed(tmp_path: Path) -> None:
    prompts, store = training_prompts(), SignalStore(tmp_path)
    runs = [mine(prompts, Hand(prompts), {"checker": checker}, store, MiningConfig(), seed) for seed in (1, 1, 2)]
    assert [one.to_json() for one in runs[0]] == [one.to_json() for one in runs[1]] and runs[0][0].seed != runs[2][0].seed
    assert store.add(runs[0]) == len(runs[0]) and store.add(runs[1]) == 0


def test_a_prompt_that_is_held_out_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for truth in (sample_scene(rng, "two", "heldout"), sample_edit(rng, "recolor", "heldout")):
        prompt = Prompt("two", "something", truth, [])
        with pytest.raises(QI2Error, match="held out"):
            mine([prompt], Hand([prompt]), {}, SignalStore(tmp_path), MiningConfig())


def bland(n: int = 20) -> list[Prompt]:
    return [Prompt("one", f"prompt {k}") for k in range(n)]


def grey(samples: Sequence[RolloutSample]) -> torch.Tensor:
    return torch.tensor([float(np.asarray(one.image).mean()) for one in samples])


def test_the_lowest_rewards_of_a_kind_are_bad_cases(tmp_path: Path) -> None:
    prompts = bland()
    found = mine(prompts, Hand(prompts), {"grey": grey}, SignalStore(tmp_path), MiningConfig(low=0.1))
    assert len(found) == 2 and all(signal.verdict["why"] == ["grey is among its lowest 10%"] for signal in found)
    assert mine(bland(5), Hand(bland(5)), {"grey": grey}, SignalStore(tmp_path), MiningConfig()) == []  # too few to say


def test_a_reward_that_says_the_same_of_all_accuses_none(tmp_path: Path) -> None:
    prompts = bland()
    scorers = {"flat": lambda samples: torch.ones(len(samples)), "absent": lambda samples: torch.full((len(samples),), torch.nan)}
    assert mine(prompts, Hand(prompts), scorers, SignalStore(tmp_path), MiningConfig()) == []


def test_two_rewards_that_contradict_each_other_are_told(tmp_path: Path) -> None:
    prompts = bland()
    found = mine(prompts, Hand(prompts), {"grey": grey, "dark": lambda samples: -grey(samples)}, SignalStore(tmp_path), MiningConfig(low=0.0))
    assert len(found) == 10 and {why for signal in found for why in signal.verdict["why"]} == {
        "dark puts it among its best, grey among its worst",
        "grey puts it among its best, dark among its worst",
    }


def test_a_reward_that_likes_what_the_checker_finds_wrong_is_told(tmp_path: Path) -> None:
    prompts = [prompt for prompt in training_prompts(80) if prompt.kind == "two"]
    taste = lambda samples: -checker(samples)  # noqa: E731
    found = mine(prompts, Hand(prompts), {"taste": taste}, SignalStore(tmp_path), MiningConfig())
    assert any("taste puts it among its best, the checker finds it wrong" in signal.verdict["why"] for signal in found)


def test_words_that_were_not_drawn_are_found_by_checker_and_by_ocr(tmp_path: Path) -> None:
    prompts, store = [prompt for prompt in training_prompts(60) if prompt.kind == "text"], SignalStore(tmp_path)
    found = mine(prompts, Hand(prompts, 1), {}, store, MiningConfig())
    assert any(signal.verdict.get("words", {}).get("wanted") == [signal.verdict["words"]["wanted"][0]] for signal in found if "words" in signal.verdict)
    own = [Prompt("sign", 'a shop sign that says "Fresh Bread"'), Prompt("sign", "a sign “Open”"), Prompt("sign", "a sign")]
    missed = mine(own, Hand(own), {}, store, MiningConfig(), reader=lambda picture: ["FRESH", "bread"])
    assert [signal.prompt for signal in missed] == ["a sign “Open”"] and missed[0].verdict["words"] == {"wanted": ["Open"], "read": ["FRESH", "bread"]}
