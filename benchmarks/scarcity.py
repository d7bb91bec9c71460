"""Which embedding finds what training data lack: ``python -m benchmarks.scarcity --run runs/tiny``.

Of a run's captioned pictures of one, two, related and counted objects, every row of one colour and shape is left out, for ``--combos`` combinations in turn.
Prompts of that combination are failures; prompts of others, in other scenes than training has, succeed. Each embedding indexes what is left, and
calls a prompt scarce where its percentile (`Corpus.scarcity`) is at most 0.05. ``recall``: share of the withheld prompts called scarce; ``precision``: share
of what is called scarce that is withheld, with as many prompts of either kind; ``control``: share called scarce where nothing was left out; ``auc``.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from qi2.core.pretrained import model_source
from qi2.core.rng import numpy_rng
from qi2.data.shards import Sidecar, read_image
from qi2.data.world.captions import captions
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import Scene
from qi2.flywheel.retrieval.embed import Clip, Hidden, Lexical

KINDS, COMBOS, LIMIT = ("one", "two", "relation", "count"), (("blue", "star"), ("purple", "circle"), ("red", "triangle"), ("cyan", "square")), 0.05
Embed = Callable[[Sequence[str]], np.ndarray]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def prompts(n: int, wanted: Callable[[Scene], bool], known: set[str], seed: int) -> list[str]:
    """New training-split prompts that fulfil a condition, of scenes that are not known."""
    draw, found = numpy_rng(seed, "scarcity"), list[str]()
    while len(found) < n:
        scene = sample_scene(draw, KINDS[len(found) % len(KINDS)])
        if wanted(scene) and scene.to_json() not in known:
            found.append(captions(scene, draw, 1)[0])
    return found


def shows(combo: tuple[str, str], scene: Scene) -> bool:
    """Whether any object has this colour and shape."""
    return any(item.combo == combo for item in scene.objects)


def lacks(combo: tuple[str, str], scene: Scene) -> bool:
    """Whether none has."""
    return not shows(combo, scene)


def nearest(queries: np.ndarray, rows: np.ndarray, k: int = 8) -> np.ndarray:
    """Mean cosine of the k nearest."""
    cosines = queries @ rows.T
    return np.sort(cosines, axis=1)[:, -k:].mean(1)


def auc(low: np.ndarray, high: np.ndarray) -> float:
    """Chance that one of the first is smaller."""
    return float(np.mean((low[:, None] < high[None]) + 0.5 * (low[:, None] == high[None])))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scarcity", description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/tiny"))
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--prompts", type=int, default=60)
    given = parser.parse_args()
    table = Sidecar.load(given.run / "raw").table
    table = table[(table["split"] == "train") & table["kind"].isin(KINDS)].iloc[: given.rows]
    scenes, known = [Scene.from_json(text) for text in table["scene"]], set(table["scene"])
    texts = [list(own)[0] for own in table["captions"]]
    clip, hidden, lexical = Clip(model_source(given.run / "standins" / "clip")), Hidden(given.run / "standins" / "vlm"), Lexical.fit(texts)
    records: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
    shown = unit(clip.images([read_image(given.run / "raw", row) for row in records]))
    ways: dict[str, tuple[Embed, np.ndarray]] = {
        "clip_picture": (clip.texts, shown),
        "clip_text": (clip.texts, unit(clip.texts(texts))),
        "vlm_text": (hidden.texts, unit(hidden.texts(texts))),
        "words": (lexical.texts, unit(lexical.texts(texts))),
    }
    for name, (embed, rows) in ways.items():
        figures = []
        for number, combo in enumerate(COMBOS):
            has = np.array([shows(combo, scene) for scene in scenes])
            own = prompts(given.prompts, partial(shows, combo), known, number)
            others, usual = (prompts(given.prompts, partial(lacks, combo), known, number + shift) for shift in (10, 20))
            queries = [unit(embed(group)) for group in (own, others, usual)]
            if name == "words":  # its rarities are counted without what is left out
                left = Lexical.fit([text for text, gone in zip(texts, has, strict=True) if not gone])
                queries, kept = [unit(left.texts(group)) for group in (own, others, usual)], unit(left.texts(texts))[~has]
            else:
                kept = rows[~has]
            withheld, rest, base = (nearest(group, kept) for group in queries)
            full = [nearest(unit(embed(group)), rows) for group in (own, usual)]
            line = np.quantile(base, LIMIT)
            called, wrong = (withheld <= line).mean(), (rest <= line).mean()
            control = (full[0] <= np.quantile(full[1], LIMIT)).mean()
            figures.append([called, called / max(called + wrong, 1e-9), control, auc(withheld, rest)])
        means = dict(zip(("recall", "precision", "control", "auc"), np.mean(figures, 0).round(3).tolist(), strict=True))
        print(json.dumps({"embedding": name, **means}), flush=True)


if __name__ == "__main__":
    main()
