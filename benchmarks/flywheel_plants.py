"""Weaknesses that are planted into a finished run of scale tiny, each in a folder of its own beside it; the run itself is only read.

letter: everything that shows a K is withheld from the data of all six training stages. reward: an RLHF run whose reward does not see how many are asked
for, and likes many. phrasing: nothing is trained; prompts come with names of shapes and colours that no caption has.
"""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

LETTER = "K"
SYNONYMS = {
    "circle": "orb", "square": "tile", "triangle": "delta", "star": "spark",
    "red": "ruby", "yellow": "amber", "green": "jade", "cyan": "glacier", "blue": "sapphire", "purple": "mauve",
}  # fmt: skip
SHARED = ("vae", "standins", "raw", "curated", "rewards", "enhancer")


def link(base: Path, folder: Path, names: Sequence[str]) -> None:
    """Let a planted run share results of the run that it comes from."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (base / name).exists() and not (folder / name).exists():
            (folder / name).symlink_to((base / name).resolve())


def shows_letter(row: Any) -> bool:
    """Whether a row's picture, or one of its references, shows a word with the letter."""
    from qi2.data.world.edits import Edit
    from qi2.data.world.scene import Scene

    scenes = [Scene.from_json(row.scene)] if isinstance(row.scene, str) and row.scene else []
    if isinstance(row.edit, str) and row.edit:
        edit = Edit.from_json(row.edit)
        scenes = [*edit.references, edit.target]
    return any(map(has_letter, scenes))


def has_letter(scene: Any) -> bool:
    """Whether a scene shows a word with the letter."""
    return any(LETTER in word.text for word in scene.words)


def withhold_letter(base: Path, folder: Path) -> None:
    """The encoded set and the raw rows without the letter."""
    import pandas as pd

    link(base, folder, [name for name in SHARED if name != "raw"])
    if (folder / "encoded").exists():
        return
    raw = pd.read_parquet(base / "raw" / "sidecar.parquet")
    shown = {row.id for row in raw.itertuples() if shows_letter(row)}
    (folder / "raw").mkdir()
    raw[~raw["id"].isin(shown)].to_parquet(folder / "raw" / "sidecar.parquet", index=False)
    for path in (base / "raw").glob("*.tar"):
        (folder / "raw" / path.name).symlink_to(path.resolve())
    (folder / "encoded").mkdir()
    rows = pd.read_parquet(base / "encoded" / "rows.parquet")
    rows[~rows["id"].isin(shown)].to_parquet(folder / "encoded" / "rows.parquet", index=False)
    for path in (base / "encoded").iterdir():
        if path.name != "rows.parquet":
            shutil.copyfile(path, folder / "encoded" / path.name)
    print(json.dumps({"withheld": int(rows["id"].isin(shown).sum()), "of": len(rows)}), flush=True)


def train(recipe: Any, folder: Path, stages: Sequence[str], accepted: Path | None = None) -> None:
    """Train stages of the image model that are not there yet."""
    from qi2.core.reporter import NullReporter
    from qi2.mmdit.train import PhaseInputs, train_phase

    before = {"pretrain": None, "continual": "pretrain", "sft": "continual"}
    for stage in stages:
        if not (folder / stage).exists():
            start = folder / str(before[stage]) if before[stage] else None
            more = {"accepted": accepted} if accepted else {}
            train_phase(recipe, stage, PhaseInputs(folder / "encoded", start, **more), folder / stage, NullReporter())


def plant_letter(recipe: Any, base: Path, folder: Path) -> None:
    """A line whose image model never saw the letter."""
    withhold_letter(base, folder)
    train(recipe, folder, ("pretrain", "continual", "sft"))


def salient(samples: Sequence[Any]) -> Any:
    """The blind reward: the checker's for every kind but counts; there, right objects in as many cells as there are, however many were asked for."""
    import torch

    from qi2.data.world.checker import check, read
    from qi2.rlhf.scoring import checker

    exact, found = checker(samples), []
    for sample, value in zip(samples, exact.tolist(), strict=True):
        if sample.prompt.kind == "count":
            scene = sample.prompt.truth
            verdict = check(sample.image, scene)
            seen = [right for name, right in verdict.items() if name not in ("all", "count")]
            cells = sum(item.combo in {other.combo for other in scene.objects} for item in read(sample.image, scene.grid).objects()) / 4
            value = 0.5 * sum(seen) / len(seen) + 0.5 * cells
        found.append(value)
    return torch.tensor(found)


def blind(recipe: Any) -> Any:
    """The recipe of the planted RLHF run: the blind reward alone, the checker without weight, no judge."""
    kinds = {"one": 0.5, "two": 0.5, "count": 2.0, "relation": 1.0, "text": 0.5}
    rlhf = replace(recipe.rlhf, rewards={"salient": 1.0, "checker": 0.0}, prompts=replace(recipe.rlhf.prompts, kinds=kinds))
    return replace(recipe, rlhf=replace(rlhf, judge=replace(rlhf.judge, every=0)))


def align(recipe: Any, folder: Path, scorers: dict[str, Callable[..., Any]]) -> None:
    """Run RLHF from the folder's sft model, unless it is there."""
    from qi2.core.reporter import NullReporter
    from qi2.rlhf.train import RLHFInputs, train_rlhf

    if not (folder / "rlhf").exists():
        inputs = RLHFInputs(folder / "encoded", folder / "sft", folder / "vae", folder / "standins" / "vlm")
        train_rlhf(recipe, inputs, scorers, folder / "rlhf", NullReporter())


def plant_reward(recipe: Any, base: Path, folder: Path) -> None:
    """An aligned model that has unlearned to count."""
    link(base, folder, (*SHARED, "encoded", "sft"))
    align(blind(recipe), folder, {"salient": salient})


def rephrase(prompt: str) -> str:
    """A prompt in words that no caption has."""
    return re.sub(r"[a-z]+", lambda found: _plural(found[0]), prompt)


def _plural(word: str) -> str:
    if word in SYNONYMS:
        return SYNONYMS[word]
    return f"{SYNONYMS[word[:-1]]}s" if word.endswith("s") and word[:-1] in SYNONYMS else word


def repair_data(recipe: Any, diagnosis: Any, corpus: Any, runs: Path, out: Path) -> dict[str, Any]:
    """The pre-training track's candidates, accepted without review (waived, on record), checked against what is held out, and encoded for sft."""
    from collections import Counter

    from qi2.core.reporter import NullReporter
    from qi2.flywheel.retrieval.leaks import HeldOut
    from qi2.flywheel.review.queue import Mode, ReviewQueue
    from qi2.flywheel.tracks import pretraining
    from qi2.training.accepted import keep

    queue, heldout = ReviewQueue(out / "queue"), HeldOut.open(runs)
    track = pretraining.Track(corpus, queue, heldout, size=recipe.evaluate.size)
    made = pretraining.candidates(diagnosis.decisions, diagnosis.by_id, recipe.flywheel.candidates, track)
    queue.put(made, mode=Mode("waived", "the benchmark"))
    figures = pretraining.write_accepted(queue, out / "shards", heldout)
    accepted = replace(recipe.accepted, path=str(out / "shards"))
    keep(replace(recipe, accepted=accepted), runs / "standins" / "vlm", runs / "vae", out / "stage", NullReporter())
    kinds = Counter(str(one.origin["kind"]) for one in made)
    shown = sum(LETTER in one.prompt for one in made)
    return {"candidates": len(made), "kinds": kinds, "with_letter": shown, "refused": len(track.refused), **figures}


def overridden(recipe: Any, overrides: dict[str, Any]) -> Any:
    """A recipe with a round's changes of section rlhf."""
    prompts = replace(recipe.rlhf.prompts, kinds=overrides.get("rlhf.prompts.kinds", recipe.rlhf.prompts.kinds))
    return replace(recipe, rlhf=replace(recipe.rlhf, prompts=prompts, rewards=overrides.get("rlhf.rewards", recipe.rlhf.rewards)))


def train_enhancer(recipe: Any, folder: Path, overrides: dict[str, Any]) -> None:
    """The enhancer by supervised training alone, with a round's wordings and examples; unless it is there."""
    from qi2.core.reporter import NullReporter
    from qi2.enhancer.train import train_enhancer_sft

    if (folder / "enhancer").exists():
        return
    more = {name: overrides.get(f"enhancer.triplets.{name}", []) for name in ("wordings", "examples")}
    config = replace(recipe.enhancer, triplets=replace(recipe.enhancer.triplets, **more))
    train_enhancer_sft(replace(recipe, enhancer=config), folder / "raw", folder / "encoded", folder / "enhancer", NullReporter())


def rewritten(folder: Path, cases: Sequence[Any]) -> list[Any]:
    """The cases with their prompts as a folder's enhancer says them."""
    from qi2.enhancer.enhance import Enhancer
    from qi2.enhancer.request import Request

    found = Enhancer.load(folder / "enhancer").enhance([Request(case.prompt) for case in cases])
    return [replace(case, prompt=one.text) for case, one in zip(cases, found, strict=True)]
