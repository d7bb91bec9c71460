"""Cost and recall of the vector index at a million vectors of width 512: ``python -m benchmarks.retrieval``.

Queries are further draws, not rows. ``clustered``: 20,000 overlapping clusters of Zipf sizes around 200 centres, as captioned pictures are. ``spectrum``, the
hard case: no clusters at all, a Gaussian whose variances fall with 1/i (about 28 dimensions count), in a random rotation. ``white``, which no index helps:
a Gaussian whose variances fall with i^-0.7, whose nearest rows have cosines of 0.35; it is measured with ``--data white`` only.
CPU times are of one thread, ``ratio`` is exact search's CPU time per query in a batch over the index's, in the same run.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from qi2.flywheel.retrieval.approximate import PROBES
from qi2.flywheel.retrieval.index import CANDIDATES, EXACT, VectorIndex

FALL = {"clustered": 1.0, "spectrum": 1.0, "white": 0.7}
BLOCK = 100_000


def points(kind: str, n: int, width: int, seed: int) -> np.ndarray:
    """Unit vectors (n, width)."""
    draw, fixed = np.random.default_rng(seed), np.random.default_rng(99)
    spread = np.arange(1, width + 1, dtype=np.float32) ** (-FALL[kind] / 2)
    spread /= np.linalg.norm(spread)
    centres = fixed.standard_normal((200, width), np.float32)[fixed.integers(0, 200, 20_000)] * 0.8
    centres += 0.6 * fixed.standard_normal((20_000, width), np.float32)
    sizes = np.arange(1, 20_001) ** -0.8
    rotation = np.linalg.qr(fixed.standard_normal((width, width)))[0].astype(np.float32)
    found = np.empty((n, width), np.float32)
    for start in range(0, n, BLOCK):
        part = draw.standard_normal((min(BLOCK, n - start), width), np.float32)
        if kind == "clustered":
            part = 0.7 * part + centres[draw.choice(20_000, len(part), p=sizes / sizes.sum())]
        part = (part * spread) @ rotation
        found[start : start + BLOCK] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return found


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    return result, time.process_time() - cpu, time.perf_counter() - wall


def measure(kind: str, rows: int, width: int, queries: int, settings: list[tuple[int, int]], folder: Path) -> None:
    """Build, search and extend one index; prints one line of JSON per setting."""
    data, asked, more = points(kind, rows, width, 1), points(kind, queries, width, 2), points(kind, 1000, width, 3)
    faiss.omp_set_num_threads(1)
    truth, exact_cpu, _ = timed(lambda: faiss.knn(asked, data, 10, metric=faiss.METRIC_INNER_PRODUCT)[1])
    faiss.omp_set_num_threads(2)
    index = VectorIndex.open(folder / kind, width)
    first = EXACT // 2  # so that the border is crossed by an incremental add

    def build() -> None:
        for part in (range(first), range(first, rows)):
            index.add([str(i) for i in part], data[part[0] : part[-1] + 1])

    _, build_cpu, build_s = timed(build)
    data = asked[:0]  # 2 GB
    faiss.omp_set_num_threads(1)
    facts: dict[str, Any] = {"data": kind, "rows": rows, "build_cpu_s": build_cpu, "build_s": build_s}
    facts |= {"vectors_mb": rows * width * 4e-6, "index_mb": sum(path.stat().st_size for path in (folder / kind).glob("ann-*")) * 1e-6}
    facts |= {"exact_cpu_ms": exact_cpu / queries * 1e3}
    for probes, candidates in settings:
        (names, _), batch, _ = timed(lambda p=probes, c=candidates: index.search(asked, 10, p, c))  # type: ignore[misc]
        _, single, _ = timed(lambda p=probes, c=candidates: [index.search(asked[i : i + 1], 10, p, c) for i in range(100)])  # type: ignore[misc]
        recall = np.mean([len({str(i) for i in wanted} & set(got)) / 10 for wanted, got in zip(truth, names, strict=True)])
        found = {"probes": probes, "candidates": candidates, "recall@10": recall, "batch_cpu_ms": batch / queries * 1e3, "single_cpu_ms": single * 10}
        print(json.dumps(_round(facts | found | {"ratio": exact_cpu / batch})), flush=True)
    _, add_cpu, add_s = timed(lambda: index.add([f"new-{i}" for i in range(1000)], more))
    assert index.search(more[:5], 1)[0] == [[f"new-{i}"] for i in range(5)]
    _, open_cpu, open_s = timed(lambda: VectorIndex.open(folder / kind, width))
    print(json.dumps(_round({"data": kind, "add_1000_cpu_s": add_cpu, "add_1000_s": add_s, "open_cpu_s": open_cpu, "open_s": open_s})), flush=True)


def _round(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value if isinstance(value, str | int) else round(float(value), 4) for name, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--data", nargs="+", default=["clustered", "spectrum"], choices=FALL)
    parser.add_argument("--settings", nargs="+", default=[f"{PROBES},{CANDIDATES}"], help="PROBES,CANDIDATES ...")
    given = parser.parse_args()
    settings = [(int(p), int(c)) for p, c in (text.split(",") for text in given.settings)]
    with tempfile.TemporaryDirectory(prefix="qi2-retrieval-") as folder:
        for kind in given.data:
            measure(kind, given.rows, given.width, given.queries, settings, Path(folder))


if __name__ == "__main__":
    main()
