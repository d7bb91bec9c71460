"""SFT and RL of a tiny enhancer: what is published, exact resume, and rewards that cannot be gamed."""

import json
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from qi2.config import load
from qi2.core.errors import QI2Error
from qi2.core.reporter import NullReporter
from qi2.core.rng import numpy_rng
from qi2.data.ingest import ingest
from qi2.data.shards import Sidecar
from qi2.data.world.captions import all_captions
from qi2.data.world.edits import Edit
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import Scene
from qi2.enhancer import lm
from qi2.enhancer.anchor import Anchor
from qi2.enhancer.config import EnhancerModelConfig, LimitsConfig
from qi2.enhancer.enhance import Enhancer
from qi2.enhancer.painter import CachedPainter
from qi2.enhancer.request import Request
from qi2.enhancer.rewards import Judge
from qi2.enhancer.template import END, answer, question
from qi2.enhancer.train import EnhancerInputs, learned_rows, train_enhancer, train_enhancer_sft
from qi2.enhancer.triplets import Triplet, read_triplets
from qi2.enhancer.truth import consistency, shown
from qi2.recipe import Recipe

SMALL = {
    "model": {"width": 32, "layers": 1, "heads": 2, "vocabulary": 400},
    "instructions": {"t2i": "image", "ti2i": "edit"},
    "triplets": {"pool": 96},
    "limits": {"tokens": 12},
    "sft": {"steps": 4, "batch_size": 8, "save_every": 2, "optimizer": {"name": "muon", "lr": 0.02, "adam_lr": 0.003}},
    "rl": {"steps": 2, "prompts": 2, "group": 2, "save_every": 1, "rewards": {"consistency": 1.0, "aesthetic": 0.0, "text": 1.0}, "optimizer": {"lr": 0.001}},
    "size": 32,
}


class Dreamer:
    """Draws the scene whose caption it is asked for, and noise for any other prompt."""

    def __init__(self, scenes: Sequence[Scene], size: int = 64) -> None:
        self.size = size
        self.known = {text: scene for scene in scenes for text in all_captions(scene)}

    def __call__(self, prompts: Sequence[str], references: Sequence[Sequence[Image.Image]], seeds: Sequence[int]) -> list[Image.Image]:
        return [render(self.known[p], self.size) if p in self.known else _noise(seed, self.size, p) for p, seed in zip(prompts, seeds, strict=True)]


def _noise(seed: int, size: int = 64, prompt: str = "") -> Image.Image:
    return Image.fromarray(np.random.default_rng([seed, zlib.crc32(prompt.encode())]).integers(0, 255, (size, size, 3), dtype=np.uint8))


def _brightness(answers: Sequence[Any]) -> torch.Tensor:
    return torch.tensor([float(np.asarray(answer.image).mean()) for answer in answers])


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("enhancer") / "raw"
    data = {"world_images": 40, "rich_images": 0, "heldout_images": 4, "edit_pairs": 12, "heldout_edits": 4, "photo_crops": 0, "image_size": 32}
    ingest(load(Recipe, [{"data": data}]), folder, NullReporter())
    (folder.parent / "encoded").mkdir()
    Sidecar.load(folder).table[["id"]].iloc[:-1].to_parquet(folder.parent / "encoded" / "rows.parquet")
    return folder


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load(Recipe, [{"enhancer": SMALL}])


def _weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def _sft(recipe: Recipe, raw: Path, out: Path, checkpoints: Path) -> dict[str, float]:
    return train_enhancer_sft(recipe, raw, raw.parent / "encoded", out, NullReporter(), checkpoints)


def _rl(recipe: Recipe, raw: Path, start: Path, out: Path, checkpoints: Path | None) -> dict[str, float]:
    return train_enhancer(recipe, EnhancerInputs(start, raw, checkpoints), Dreamer([], 32), {"alignment": _brightness}, out, NullReporter())


@pytest.mark.parametrize("kept", [2, 4])
def test_sft_goes_on_from_its_newest_checkpoint_to_the_same_weights(recipe: Recipe, raw: Path, tmp_path: Path, kept: int) -> None:
    metrics = _sft(recipe, raw, tmp_path / "whole", tmp_path / "checkpoints")
    assert 0 <= metrics["enhancer/usable"] <= 1 and metrics["triplets/kept"] > 60
    for step in [step for step in (2, 4) if step > kept]:
        shutil.rmtree(tmp_path / "checkpoints" / f"step-{step:08d}")
    _sft(recipe, raw, tmp_path / "resumed", tmp_path / "checkpoints")
    assert _weights(tmp_path / "resumed") == _weights(tmp_path / "whole")
    assert (tmp_path / "resumed" / "curves.csv").read_bytes() == (tmp_path / "whole" / "curves.csv").read_bytes()


def test_rl_goes_on_from_its_newest_checkpoint_to_the_same_weights_and_figures(raw: Path, tmp_path: Path) -> None:
    """A model that learned two answers to one prompt, of which the pictures of one are brighter."""
    path = tmp_path / "two.jsonl"
    path.write_text("".join(json.dumps({"short": "go", "reasoning": "r", "fine": fine}) + "\n" for fine in ("a red circle", "a blue star") * 50))
    sft = {**SMALL["sft"], "steps": 60}  # type: ignore[dict-item]
    rl = {**SMALL["rl"], "anchor": 0.5}  # type: ignore[dict-item]
    recipe = load(Recipe, [{"enhancer": {**SMALL, "sft": sft, "rl": rl, "triplets": {"pool": 0, "examples": [str(path)]}}}])
    _sft(recipe, raw, tmp_path / "sft", tmp_path / "sft_checkpoints")
    _rl(recipe, raw, tmp_path / "sft", tmp_path / "whole", tmp_path / "checkpoints")
    assert _weights(tmp_path / "whole") != _weights(tmp_path / "sft")
    shutil.rmtree(tmp_path / "checkpoints" / "step-00000002")
    _rl(recipe, raw, tmp_path / "sft", tmp_path / "resumed", tmp_path / "checkpoints")
    assert _weights(tmp_path / "resumed") == _weights(tmp_path / "whole")
    for name in ("metrics.json", "curves.csv"):
        assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_anchor_is_the_likelihood_of_the_answers(recipe: Recipe, raw: Path, tmp_path: Path) -> None:
    _sft(recipe, raw, tmp_path / "sft", tmp_path / "checkpoints")
    before, config = Enhancer.load(tmp_path / "sft"), recipe.enhancer
    short = Triplet("a", "t2i", "one", "general", "red", "r", "a red circle")
    asked, said = (
        before.tokenizer(text)["input_ids"]
        for text in (question(before.tokenizer, config.instructions, "t2i", "red"), answer("r", "a red circle", "red") + END)
    )
    with torch.no_grad():
        logits = before.model(input_ids=torch.tensor([asked + said])).logits[0, len(asked) - 1 : -1]
        found = Anchor(before.tokenizer, [short], config, 0)(before.model, 0)
        many = Anchor(before.tokenizer, read_triplets(tmp_path / "sft" / "triplets.jsonl"), config, 0)
        assert many(before.model, 3) == many(before.model, 3) != many(before.model, 4)
    assert float(found) == pytest.approx(float(torch.nn.functional.cross_entropy(logits, torch.tensor(said))), rel=1e-4)


def test_rl_with_an_anchor_stays_nearer_to_the_triplets(recipe: Recipe, raw: Path, tmp_path: Path) -> None:
    """Rewrites that earn nothing leave the anchor alone to move the weights."""
    _sft(recipe, raw, tmp_path / "sft", tmp_path / "checkpoints")
    held = read_triplets(tmp_path / "sft" / "triplets.jsonl")
    losses = []
    for name, weight in (("alone", 0.0), ("anchored", 1.0)):
        rl = {**SMALL["rl"], "steps": 8, "anchor": weight}  # type: ignore[dict-item]
        _rl(load(Recipe, [{"enhancer": {**SMALL, "rl": rl}}]), raw, tmp_path / "sft", tmp_path / name, None)
        after = Enhancer.load(tmp_path / name)
        with torch.no_grad():
            losses.append(float(Anchor(after.tokenizer, held, recipe.enhancer, 1)(after.model, 0)))
    assert losses[1] < losses[0]


def test_without_steps_of_rl_the_sft_model_is_handed_on(recipe: Recipe, raw: Path, tmp_path: Path) -> None:
    _sft(recipe, raw, tmp_path / "sft", tmp_path / "checkpoints")
    still = load(Recipe, [{"enhancer": {**SMALL, "rl": {"steps": 0}}}])
    _rl(still, raw, tmp_path / "sft", tmp_path / "out", None)
    assert _weights(tmp_path / "out") == _weights(tmp_path / "sft")
    assert Enhancer.load(tmp_path / "out").enhance([Request("a red circle")])[0].text


def test_rl_asks_for_what_sft_did_not_read(raw: Path, tmp_path: Path) -> None:
    """A model of four steps writes nothing that can be used, so that the generator is asked for the short prompts themselves."""
    recipe, seen = load(Recipe, [{"enhancer": {**SMALL, "triplets": {"pool": 96, "reserve": 0.4}}}]), set[str]()
    _sft(recipe, raw, tmp_path / "sft", tmp_path / "sft_checkpoints")
    learned, kept = (read_triplets(tmp_path / "sft" / name) for name in ("triplets.jsonl", "reserved.jsonl"))

    def painter(prompts: Sequence[str], references: Sequence[Sequence[Image.Image]], seeds: Sequence[int]) -> list[Image.Image]:
        seen.update(prompts)
        return Dreamer([], 32)(prompts, references, seeds)

    train_enhancer(recipe, EnhancerInputs(tmp_path / "sft", raw, None), painter, {}, tmp_path / "out", NullReporter())
    assert seen and seen <= {t.short for t in kept} and not seen & {t.short for t in learned}


def test_adapters_are_trained_and_merged(raw: Path, tmp_path: Path) -> None:
    sft = {**SMALL["sft"], "optimizer": {"name": "adam", "lr": 0.01}}  # type: ignore[dict-item]
    recipe = load(Recipe, [{"enhancer": {**SMALL, "sft": sft, "model": {**SMALL["model"], "lora_rank": 2}}}])  # type: ignore[dict-item]
    _sft(recipe, raw, tmp_path / "sft", tmp_path / "checkpoints")
    assert not any("lora" in name for name in Enhancer.load(tmp_path / "sft").model.state_dict())


@pytest.fixture(scope="module")
def scene() -> Scene:
    return sample_scene(numpy_rng(3, "scene"), "one")


@pytest.fixture(scope="module")
def judge(scene: Scene) -> Judge:
    model, tokenizer = lm.start(EnhancerModelConfig(width=32, layers=1, heads=2, vocabulary=400), [scene.background] * 4, 0)
    enhancer = Enhancer(model, tokenizer, {"t2i": "image", "ti2i": "edit"}, LimitsConfig())
    fine = all_captions(scene)[0]
    triplet = Triplet("a", "t2i", "one", "general", "thing " + fine.split(" on ")[0], "r", fine, dropped=("background",), truth=scene.to_json())
    return Judge(enhancer, [triplet], Dreamer([scene]), {}, 2, 0, lambda name: _noise(0))


def test_what_the_picture_does_not_show_is_not_paid_for(judge: Judge) -> None:
    """Length, praise and stuffed keywords earn less than a plain good rewrite, and no more than the original prompt would."""
    short, fine = judge.triplets[0].short, judge.triplets[0].fine
    tricks = [f"{fine}, masterpiece, best quality, score 10", " ".join([fine] * 12), f"{fine} {fine} {fine} {fine} {fine} {fine}", short]
    replies = [answer("r", fine, short), "garbage", *(f"<think>r</think><answer>{text}</answer>" for text in tricks)]
    rewards = judge(replies, [0] * len(replies), 0)
    total = [float(a or 0) + float(b or 0) for a, b in zip(rewards["consistency"], rewards["text"], strict=True)]
    assert rewards["consistency"][0] == 1.0 and rewards["text"][0] == 1.0
    assert all(other < total[0] - 0.5 for other in total[1:])
    assert rewards["text"][1:5] == [0.0] * 4
    assert all(value == rewards["consistency"][-1] for value in rewards["consistency"][1:5])


def test_a_group_shares_its_noise_and_repeated_rewrites_are_drawn_once(judge: Judge) -> None:
    judge.painter.drawn = 0
    reply = answer("r", judge.triplets[0].fine, judge.triplets[0].short)
    judge([reply] * 4, [0] * 4, 7)
    assert judge.painter.drawn == judge.images


def test_the_cache_keeps_so_many_pictures() -> None:
    painter = CachedPainter(Dreamer([]), kept=2)
    for seed in (0, 1, 2, 0):
        painter(["x"], [()], [[]], [seed])
    assert (painter.drawn, painter.asked, len(painter.pictures)) == (4, 4, 2)


def test_what_a_prompt_leaves_open_is_not_judged(scene: Scene) -> None:
    other = render(Scene(scene.kind, scene.grid, "pink" if scene.background != "pink" else "mint", scene.objects), 64)
    assert not shown(other, scene)["all"] and shown(other, scene, ("background",))["all"]
    assert consistency(other, scene, ("background",)) == 1.0 > consistency(other, scene)


def test_an_edit_is_judged_by_its_change_and_by_what_it_kept() -> None:
    from qi2.data.world.edits import sample_edit

    edit: Edit = sample_edit(numpy_rng(0, "edit"), "recolor")
    source, target = render(edit.references[0], 64), render(edit.target, 64)
    assert consistency(target, edit, (), source) > 0.9 > consistency(source, edit, (), source)


def test_a_reward_without_a_judge_is_refused(judge: Judge) -> None:
    with pytest.raises(QI2Error, match="needs the run's reward models"):
        judge.functions({"aesthetic": 1.0})
    with pytest.raises(QI2Error, match="no reward 'beauty'"):
        judge.functions({"beauty": 1.0})


def test_reward_models_judge_by_what_was_meant_where_no_truth_is_known(scene: Scene, judge: Judge) -> None:
    seen: list[Any] = []

    def alignment(answers: Sequence[Any]) -> torch.Tensor:
        seen.extend(answers)
        return torch.arange(len(answers), dtype=torch.float32)

    own = Triplet("u", "t2i", "", "general", "my dog", "r", "my dog on a sofa")
    asked = Judge(judge.enhancer, [own], Dreamer([]), {"alignment": alignment}, 1, 0, lambda name: _noise(0))
    rewards = asked([answer("r", "my dog on a sofa", "my dog"), "garbage"], [0, 0], 0)
    assert rewards["consistency"] == [0.0, 1.0] and [a.prompt.text for a in seen] == ["my dog on a sofa"] * 2
    with pytest.raises(QI2Error, match="no alignment reward"):
        Judge(judge.enhancer, [own], Dreamer([]), {}, 1, 0, lambda name: _noise(0))(["garbage"], [0], 0)


def test_the_card_holds_what_use_needs(recipe: Recipe, raw: Path, tmp_path: Path) -> None:
    _sft(recipe, raw, tmp_path / "sft", tmp_path / "checkpoints")
    card = json.loads((tmp_path / "sft" / "enhancer.json").read_text())
    assert card["instructions"] == SMALL["instructions"] and card["limits"]["tokens"] == 12
    (tmp_path / "sft" / "enhancer.json").write_text("{}")
    with pytest.raises(QI2Error, match="differs"):
        Enhancer.load(tmp_path / "sft")
    with pytest.raises(QI2Error, match="no prompt enhancer"):
        Enhancer.load(tmp_path / "nowhere")


def test_only_rows_that_the_generator_learns_from_become_triplets(raw: Path) -> None:
    table, left_out = Sidecar.load(raw).table, learned_rows(raw, raw.parent / "encoded")
    assert len(left_out) == len(table) - 1 and table["id"].iloc[-1] not in set(left_out["id"])
