"""What the world's editing suites give to whoever does nothing, and to whoever does all: ``python -m benchmarks.suite_bounds --run runs/tiny``.

``copy``: the first reference, unchanged; ``right``: the target as drawn; ``vae``: the target through the run's VAE, which bounds every model behind it.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from qi2.data.world.render import render
from qi2.data.world.scene import Scene
from qi2.evaluation.drawing import Job, chunks
from qi2.evaluation.reconstruct import reconstruct
from qi2.evaluation.scorers.registry import open_scorer
from qi2.evaluation.store import Store
from qi2.evaluation.suites.registry import find_suite
from qi2.evaluation.suites.run import evaluate_suite
from qi2.evaluation.suites.suite import Suite
from qi2.models.vae import VAE

BOUNDS = ("copy", "right", "vae")
JUDGED = ("world-editing", "world-editing-parts", "world-identity", "world-references")
NEAR = ("world-identity-similarity", "world-references-similarity")
BATCH = 64


class Bound:
    """A painter that knows what is right: a job is known by its prompt and the hashes of its references."""

    batch = BATCH

    def __init__(self, name: str, suite: Suite, vae: VAE, size: int) -> None:
        self.name, self.size, self.vae = name, size, vae
        self.facts: Mapping[str, Any] = {"model": name}
        side = suite.config.size or size
        self.targets = {(row.prompt, *(one.hash(side) for one in row.references)): Scene.from_dict(row.truth["target"]) for row in suite.rows}

    def draw(self, jobs: Sequence[Job]) -> Iterator[list[Image.Image]]:
        """The bound's pictures, a batch at a time."""
        for part in chunks(jobs, self.batch):
            yield self._pictures(part)

    def _pictures(self, jobs: Sequence[Job]) -> list[Image.Image]:
        if self.name == "copy":
            return [job.references()[0] for job in jobs]
        right = [render(self.targets[(job.prompt, *job.facts["references"])], int(job.facts["size"])) for job in jobs]
        return right if self.name == "right" else reconstruct(self.vae, right, self.batch)


def main() -> None:
    """Print the score of every suite and bound as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite_bounds", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/tiny"), help="whose VAE and stand-in CLIP are taken")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--prompts", type=int, default=0, help="at most so many of every suite, evenly spread (0: all)")
    args = parser.parse_args()
    vae, found = VAE.load(args.run / "vae"), dict[str, dict[str, float]]()
    for name in (*JUDGED, *NEAR):
        suite = find_suite(name).part(args.prompts)
        scorer = open_scorer(suite, str(args.run / "standins" / "clip") if name in NEAR else "")
        with tempfile.TemporaryDirectory() as folder:
            results = [evaluate_suite(Bound(bound, suite, vae, args.size), suite, scorer, Store(Path(folder)), resamples=10) for bound in BOUNDS]
        found[name] = {result.model: round(result.figures["score"].value, 3) for result in results}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
