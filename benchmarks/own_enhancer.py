"""What the judges of a user's own images see of an enhancer whose worth is known exactly: ``python -m benchmarks.own_enhancer --run runs/tiny``.

Held-out pictures of the world become a folder of a user's images with captions and nothing else; the run's enhancer is then judged on them as on any own
images. What CLIP and the alignment reward say can be compared with what the exact checker says of the same enhancer (docs/enhancer.md, which keeps the
results). Half a minute of one core.
"""

import argparse
import json
import tempfile
from pathlib import Path


def images(folder: Path, n: int, seed: int) -> None:
    """``n`` held-out scenes of the five kinds as pictures beside their captions."""
    import numpy as np

    from qi2.data.world.captions import captions
    from qi2.data.world.render import render
    from qi2.data.world.sample import sample_scene

    folder.mkdir(parents=True)
    draw = np.random.default_rng(seed)
    for i in range(n):
        scene = sample_scene(draw, ("one", "two", "count", "relation", "text")[i % 5], "heldout")
        render(scene, 64).convert("RGB").save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(captions(scene, draw, 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.own_enhancer", description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/tiny"))
    parser.add_argument("--images", type=int, default=420)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()

    from qi2.config import load
    from qi2.core.reporter import NullReporter
    from qi2.data.ingest import ingest
    from qi2.evaluation.enhanced_user import UserEnhancerExam
    from qi2.evaluation.exam import Folders
    from qi2.evaluation.models import contenders
    from qi2.evaluation.painter import ModelPainter
    from qi2.evaluation.samples import Samples
    from qi2.evaluation.store import opened
    from qi2.evaluation.user_exam import UserExam
    from qi2.recipe import Recipe, scale_layers

    with tempfile.TemporaryDirectory(prefix="qi2-own-") as scratch:
        work = Path(scratch)
        images(work / "own", given.images, given.seed)
        own = {"data": {"source": str(work / "own"), "heldout_fraction": 0.99, "workers": 0}, "enhancer": {"evaluate_prompts": 80}}
        cfg = load(Recipe, [*scale_layers(Path("conf"), given.run.name), own])
        ingest(cfg, work / "raw", NullReporter())
        folders = Folders(given.run / "vae", given.run / "standins", work / "raw")
        samples = Samples(work, NullReporter(), cfg.evaluate.shown, cfg.evaluate.tracked)
        (drawer,) = contenders(cfg, {cfg.enhancer.generator: given.run / cfg.enhancer.generator}, cfg.evaluate.chain_steps)
        with opened(None) as store:
            exam = UserExam(cfg, folders, samples, store)
            figures = UserEnhancerExam(cfg, given.run, ModelPainter(exam.studio, drawer), exam, samples).run()
    print(json.dumps({name: figure.to_json() for name, figure in figures.items()}, indent=1))


if __name__ == "__main__":
    main()
