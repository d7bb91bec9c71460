"""How two cores serve the image model best, and what its cache saves: ``python -m benchmarks.cores --runs runs/tiny``.

Milliseconds per SFT step of scale tiny with one thread, with two, and in two processes (DDP over gloo) that share its batch; each in processes of
their own, in turns. ``uncached``: what computing a step's latents and hidden states anew would add to one thread's step; ``online``: a step of a
training that does so (``encode.online``), in a thread beside its steps. Last line JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

ONLINE = "online"
WAYS = {"one_thread": (1, 1), "two_threads": (2, 1), "two_processes": (1, 2), ONLINE: (1, 1)}  # threads, processes
CACHE = "uncached"


def measure(way: str, runs: Path, steps: int) -> float:
    """Milliseconds in new processes."""
    threads = WAYS.get(way, (1, 1))[0]
    command = [sys.executable, "-m", "benchmarks.cores", "--runs", str(runs), "--steps", str(steps), "--way", way]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.splitlines()[-1])


def step(way: str, runs: Path, steps: int) -> float:
    """Milliseconds per step of a training in this process, or in this one and others that it starts."""
    import torch

    from benchmarks.loop import build
    from qi2.core.reporter import NullReporter
    from qi2.training.fit import fit

    threads, processes = WAYS[way]
    torch.set_num_threads(threads)
    recipe = _recipe()
    module = build(recipe, samples(recipe, runs, way == ONLINE), steps)
    fit(module, way, NullReporter(), engine=replace(recipe.engine, dry_run=False, devices=processes), ema=recipe.sft.ema)
    return 1e3 * module.seconds / steps


def samples(recipe: Any, runs: Path, online: bool) -> Any:
    """The run's encoded samples, or the same encoded while they are read."""
    from qi2.core.reporter import NullReporter
    from qi2.training.encode import encode
    from qi2.training.joined import open_set

    if not online:
        return open_set(runs / "encoded")
    with tempfile.TemporaryDirectory() as folder:
        settings = replace(recipe, encode=replace(recipe.encode, online=True))
        encode(settings, runs / "datasets", runs / "standins" / "vlm", runs / "vae", Path(folder) / "encoded", NullReporter())
        return open_set(Path(folder) / "encoded")


def anew(runs: Path, batches: int) -> float:
    """Milliseconds to encode the pictures and the prompts of one SFT batch: the mean over batches of stage 6, T2I and edits."""
    import torch

    from qi2.data.shards import Sidecar
    from qi2.models.condition import ConditionEncoder
    from qi2.models.pixels import to_tensor
    from qi2.models.vae import VAE

    torch.set_num_threads(1)
    recipe, side = _recipe(), Sidecar.load(runs / "datasets" / "s6")
    vae, encoder = VAE.load(runs / "vae"), ConditionEncoder.load(runs / "standins" / "vlm")
    size, n = recipe.sft.stages[0].sizes[0], recipe.sft.batch_size
    spent = []
    for rows in islice(_batches(side.table, n, recipe.sft.stages[0].ti2i_share), batches):
        groups = [[side.image(name).resize((size, size)) for name in references] for references in rows["references"]]
        targets = [side.image(name).resize((size, size)) for name in rows["id"]]
        start = time.perf_counter()
        with torch.no_grad():
            vae.encode(to_tensor(targets + [image for group in groups for image in group]))
        encoder.encode([captions[0] for captions in rows["captions"]], groups, n)
        spent.append(time.perf_counter() - start)
    return 1e3 * sum(spent) / len(spent)


def _batches(table: Any, n: int, share: float) -> Iterator[Any]:
    """Tables of ``n`` rows of one task, every so many an editing one."""
    t2i, edits = table[table["task"] == "t2i"], table[table["task"] == "ti2i"]
    for i in range(10**6):
        rows = edits if int((i + 1) * share) > int(i * share) else t2i
        yield rows.sample(n, random_state=i)


def _recipe() -> Any:
    from qi2.config import load
    from qi2.recipe import Recipe
    from tasks import settings

    return load(Recipe, [settings.ROOT / "conf" / "scale" / "tiny.yaml"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cores", description=__doc__)
    parser.add_argument("--runs", type=Path, required=True, help="folder of a finished run of scale tiny")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=[*WAYS, CACHE])
    given = parser.parse_args()
    if given.way:
        print(anew(given.runs, 40) if given.way == CACHE else step(given.way, given.runs, given.steps))
        return
    found: dict[str, list[float]] = {way: [] for way in (*WAYS, CACHE)}
    for _ in range(given.repeats):
        for way, values in found.items():
            values.append(measure(way, given.runs, given.steps))
    result = {f"{way}_ms": round(median(values), 2) for way, values in found.items()}
    one = result["one_thread_ms"]
    ratios = {f"{way}_speedup": round(one / result[f"{way}_ms"], 2) for way in WAYS}
    print(json.dumps(result | ratios | {"cache_speedup": round(1 + result["uncached_ms"] / one, 2)}))


if __name__ == "__main__":
    main()
