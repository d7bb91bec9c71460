"""Where the alignment reward of scale tiny is wrong, and why: ``python -m benchmarks.reward_misses [--model runs/tiny/rewards/alignment]``.

Pairs of its own, without label noise and ties, of training's combinations and of held-out ones: prints one line of JSON for each with the accuracy
by kind of scene and by what is wrong. A last line says how well a linear map, fitted on training's combinations, reads the colour and the shape
of every cell from the frozen language model's states of the prompt, which are all that the head has of it. ``docs/rewards.md`` keeps the results.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

SPLITS = ("train", "heldout")
SIDE = 64


@dataclass
class Pairs:
    """N prompts with the right and the wrong picture, their scenes, and what is wrong."""

    prompts: list[str]
    pictures: list[tuple[Image.Image, Image.Image]]
    scenes: list[object]
    names: list[tuple[str, str]]


def draw_pairs(split: str, count: int, seed: int) -> Pairs:
    """Kinds in turn."""
    from qi2.core.rng import numpy_rng
    from qi2.data.world.captions import captions
    from qi2.data.world.mutate import wrong_scene
    from qi2.data.world.render import render
    from qi2.data.world.sample import sample_scene
    from qi2.data.world.scene import TINY_KINDS

    found = Pairs([], [], [], [])
    for index in range(count):
        rng, kind = numpy_rng(seed, f"benchmarks/misses/{split}", index), TINY_KINDS[index % len(TINY_KINDS)]
        scene = sample_scene(rng, kind, split)
        found.prompts.append(captions(scene, rng, 1)[0])
        name, wrong = wrong_scene(scene, rng)
        found.pictures.append((render(scene, SIDE), render(wrong, SIDE)))
        found.scenes.append(scene)
        found.names.append((kind, name))
    return found


def shares(right: Sequence[float], names: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Accuracy of all pairs, by kind of scene, and by what is wrong."""
    groups: dict[str, list[float]] = defaultdict(list)
    for value, (kind, wrong) in zip(right, names, strict=True):
        for name in ("all", kind, f"wrong {wrong}"):
            groups[name].append(value)
    return {name: round(sum(values) / len(values), 3) for name, values in groups.items()}


def cells(pairs: Pairs, rows: Sequence[int]) -> list[list[tuple[str, str, bool]]]:
    """Colour, shape and whether the combination is held out, of the four cells of the right pictures."""
    from qi2.data.world.scene import Object
    from qi2.data.world.split import HELDOUT_COMBOS

    found = []
    for row in rows:
        shown = pairs.scenes[row].occupied()  # type: ignore[attr-defined]
        items = [shown.get((r, c)) for r in range(2) for c in range(2)]
        found.append([(i.color, i.shape, i.combo in HELDOUT_COMBOS) if isinstance(i, Object) else ("none", i or "none", False) for i in items])
    return found


def read_cells(states: dict[str, Tensor], truth: dict[str, list[list[tuple[str, str, bool]]]], which: int) -> float:
    """Share of held-out combinations of which states (N, 4, C) of the cells give the colour (0) or the shape (1) by a linear map per cell."""
    hits: list[bool] = []
    for cell in range(4):
        values = sorted({row[cell][which] for row in truth["train"]})
        known, asked = (torch.nn.functional.rms_norm(states[split][:, cell].double(), states[split].shape[-1:]) for split in SPLITS)
        target = torch.nn.functional.one_hot(torch.tensor([values.index(row[cell][which]) for row in truth["train"]])).double()
        weights = torch.linalg.solve(known.T @ known + torch.eye(known.shape[1], dtype=known.dtype), known.T @ target)
        said = [values[i] for i in (asked @ weights).argmax(1).tolist()]
        hits += [name == row[cell][which] for name, row in zip(said, truth["heldout"], strict=True) if row[cell][2]]
    return round(sum(hits) / len(hits), 3)


def main() -> None:
    """Read the command line."""
    from qi2.models.condition import ConditionEncoder
    from qi2.models.pixels import to_tensor
    from qi2.rewards.data import PromptReader, pad
    from qi2.rewards.heads import RewardModel

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/tiny"), help="a finished run of scale tiny")
    parser.add_argument("--model", type=Path, help="the reward's folder; by default the run's own")
    parser.add_argument("--pairs", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=77)
    args = parser.parse_args()
    torch.set_num_threads(1)
    encoder = ConditionEncoder.load(args.runs / "standins" / "vlm")
    model = RewardModel.load(args.model or args.runs / "rewards" / "alignment", encoder.model.model.visual, encoder.width)
    truth, prompts = {}, {}
    for split in SPLITS:
        pairs = draw_pairs(split, args.pairs, args.seed)
        read = PromptReader(encoder)(pairs.prompts, [()] * args.pairs)
        with torch.inference_mode():
            looks = torch.cat([model.look(to_tensor([i for pair in pairs.pictures[k : k + 128] for i in pair])) for k in range(0, args.pairs, 128)])
            looks = looks.unflatten(0, (-1, 2))
            scores = torch.cat([model.head(looks[k : k + 128], None, *pad(read[k : k + 128])).mean for k in range(0, args.pairs, 128)])
        print(json.dumps({"combinations": split, **shares((scores[:, 0] > scores[:, 1]).double().tolist(), pairs.names)}), flush=True)
        placed = [k for k in range(args.pairs) if pairs.names[k][0] in ("one", "two", "text")]  # kinds whose prompts say what every cell shows
        truth[split], prompts[split] = cells(pairs, placed), torch.stack([read[k] for k in placed])[:, 1:]  # after the background's state
    print(json.dumps({"held-out combinations read in prompts": {what: read_cells(prompts, truth, k) for k, what in enumerate(("colour", "shape"))}}))


if __name__ == "__main__":
    main()
