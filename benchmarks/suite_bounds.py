"""What the world's editing suites give to whoever does nothing, and to whoever does all: ``python -m benchmarks.suite_bounds --run runs/tiny``.

``copy``: the first reference, unchanged; ``right``: the target as drawn; ``vae``: the target through the run's VAE, which bounds every model behind it.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from qi2.data.world.render import render
from qi2.data.world.scene import Scene
from qi2.evaluation.reconstruct import reconstruct
from qi2.evaluation.scorers.registry import open_scorer
from qi2.evaluation.store import Store
from qi2.evaluation.suites.registry import find_suite
from qi2.evaluation.suites.run import evaluate_suite
from qi2.evaluation.suites.suite import Suite
from qi2.models.vae import VAE

JUDGED = ("world-editing", "world-editing-parts", "world-identity", "world-references")
NEAR = ("world-identity-similarity", "world-references-similarity")
BATCH = 64


class Bound:
    """A painter that knows what is right."""

    batch = BATCH

    def __init__(self, name: str, suite: Suite, vae: VAE, size: int) -> None:
        self.name, self.facts, self.size, self.vae = name, {"model": name}, size, vae
        self.targets = {self._asked(row.prompt, [one.open(size) for one in row.references]): Scene.from_dict(row.truth["target"]) for row in suite.rows}

    def draw(self, prompts: Sequence[str], references: Sequence[Sequence[Image.Image]], seeds: Sequence[int], size: int) -> list[Image.Image]:
        """The bound's pictures."""
        if self.name == "copy":
            return [group[0] for group in references]
        right = [render(self.targets[self._asked(prompt, group)], size) for prompt, group in zip(prompts, references, strict=True)]
        return right if self.name == "right" else reconstruct(self.vae, right, BATCH)

    @staticmethod
    def _asked(prompt: str, references: Sequence[Image.Image]) -> tuple[str, ...]:
        return prompt, *(str(hash(image.tobytes())) for image in references)


def main() -> None:
    """Print the score of every suite and bound as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/tiny"), help="whose VAE and stand-in CLIP are taken")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    args = parser.parse_args()
    vae, found = VAE.load(args.run / "vae"), dict[str, dict[str, float]]()
    for name in (*JUDGED, *NEAR):
        suite = find_suite(name)
        scorer = open_scorer(suite, str(args.run / "standins" / "clip") if name in NEAR else "")
        with tempfile.TemporaryDirectory() as folder:
            results = [
                evaluate_suite(Bound(bound, suite, vae, args.size), suite, scorer, Store(Path(folder)), resamples=10) for bound in ("copy", "right", "vae")
            ]
        found[name] = {result.model: round(result.figures["score"].value, 3) for result in results}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
