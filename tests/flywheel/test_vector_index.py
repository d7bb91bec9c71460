"""The vector index keeps what it acknowledged, finds what is nearest, and says what is wrong with its input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from qi2.core.errors import QI2Error
from qi2.flywheel.retrieval.index import VectorIndex

WIDTH = 32


def _points(n: int, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((40, WIDTH))
    return (centres[draw.integers(0, 40, n)] + 0.5 * draw.standard_normal((n, WIDTH))).astype(np.float32)


def _names(first: int, n: int) -> list[str]:
    return [f"row-{i}" for i in range(first, first + n)]


def _nearest(queries: np.ndarray, points: np.ndarray, k: int) -> np.ndarray:
    unit = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in (queries, points)]
    return np.argsort(-(unit[0] @ unit[1].T), axis=1, kind="stable")[:, :k]


def _recall(found: list[list[str]], truth: np.ndarray) -> float:
    return float(np.mean([len({f"row-{i}" for i in wanted} & set(got)) / len(wanted) for got, wanted in zip(found, truth, strict=True)]))


def test_few_vectors_are_searched_exactly(tmp_path: Path) -> None:
    index, points, queries = VectorIndex.open(tmp_path / "i", WIDTH), _points(500), _points(20, 1)
    index.add(_names(0, 500), points)
    found, cosines = index.search(queries, 5)
    assert _recall(found, _nearest(queries, points, 5)) == 1.0
    assert (np.diff(cosines, axis=1) <= 0).all() and np.abs(cosines).max() <= 1.0001


def test_adding_across_the_border_keeps_what_was_there_and_stays_accurate(tmp_path: Path) -> None:
    index, points, queries = VectorIndex.open(tmp_path / "i", WIDTH, exact=2000), _points(9000), _points(50, 1)
    for first in range(0, 9000, 1500):
        index.add(_names(first, 1500), points[first : first + 1500])
    found, cosines = index.search(queries, 10)
    assert _recall(found, _nearest(queries, points, 10)) >= 0.98
    again = VectorIndex.open(tmp_path / "i", WIDTH, exact=2000)
    assert len(again) == 9000 and again.search(queries, 10)[0] == found and np.array_equal(again.search(queries, 10)[1], cosines)
    assert len(again.segments.state.segments) < 6


@pytest.mark.parametrize("exact", [10**6, 1000])
def test_what_was_removed_or_replaced_is_never_found_again(tmp_path: Path, exact: int) -> None:
    index, points = VectorIndex.open(tmp_path / "i", WIDTH, exact), _points(3000)
    index.add(_names(0, 3000), points)
    index.remove(_names(0, 300))
    index.add(["row-300"], -points[300:301], replace=True)
    for opened in (index, VectorIndex.open(tmp_path / "i", WIDTH, exact)):
        found, cosines = opened.search(points[:301], 10)
        assert not {name for row in found for name in row} & {*_names(0, 300)} and len(opened) == 2700
        assert opened.search(-points[300:301], 1)[0] == [["row-300"]]
        assert cosines.shape == (301, 10)


def test_many_removals_write_the_folder_anew(tmp_path: Path) -> None:
    index, points = VectorIndex.open(tmp_path / "i", WIDTH, 1000), _points(3000)
    index.add(_names(0, 3000), points)
    index.remove(_names(0, 1500))
    assert len(index.segments) == 1500 and index.search(points[1600:1601], 1)[0] == [["row-1600"]]
    assert len(VectorIndex.open(tmp_path / "i", WIDTH, 1000)) == 1500


def test_the_same_calls_give_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        index = VectorIndex.open(tmp_path / name, WIDTH, 1000)
        index.add(_names(0, 1200), _points(1200))
        index.add(_names(1200, 100), _points(100, 2))
    assert (tmp_path / "a" / "manifest.json").read_bytes() == (tmp_path / "b" / "manifest.json").read_bytes()


def test_bad_input_is_refused_in_words_and_changes_nothing(tmp_path: Path) -> None:
    index = VectorIndex.open(tmp_path / "i", WIDTH)
    index.add(["a"], np.ones((1, WIDTH)))
    bad = np.ones((1, WIDTH))
    bad[0, 3] = np.nan
    for ids, vectors, said in (
        (["a"], np.ones((1, WIDTH)), "already"),
        (["b", "b"], np.ones((2, WIDTH)), "twice"),
        (["b"], np.ones((1, 7)), "shape"),
        (["b"], bad, "NaN"),
        (["b"], np.zeros((1, WIDTH)), "zeros"),
        (["b", "c"], np.ones((1, WIDTH)), "2 ids"),
        ([""], np.ones((1, WIDTH)), "no id"),
    ):
        with pytest.raises(QI2Error, match=said):
            index.add(ids, vectors)
    with pytest.raises(QI2Error, match="cannot be removed"):
        index.remove(["z"])
    with pytest.raises(QI2Error, match="at least one"):
        index.search(np.ones((1, WIDTH)), 0)
    assert VectorIndex.open(tmp_path / "i", WIDTH).ids == ["a"]
    with pytest.raises(QI2Error, match="width 32, not 16"):
        VectorIndex.open(tmp_path / "i", 16)


def test_an_empty_index_finds_nothing(tmp_path: Path) -> None:
    found, cosines = VectorIndex.open(tmp_path / "i", WIDTH).search(np.ones((2, WIDTH)), 3)
    assert found == [[], []] and cosines.shape == (2, 0)


def test_a_torn_file_is_detected_by_its_hash(tmp_path: Path) -> None:
    VectorIndex.open(tmp_path / "i", WIDTH).add(_names(0, 100), _points(100))
    part = next((tmp_path / "i").glob("segment-*.npy"))
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    with pytest.raises(QI2Error, match="torn"):
        VectorIndex.open(tmp_path / "i", WIDTH)
    (tmp_path / "i" / "manifest.json").write_text("{")
    with pytest.raises(QI2Error, match="damaged"):
        VectorIndex.open(tmp_path / "i", WIDTH)


def test_a_torn_approximate_part_is_made_again(tmp_path: Path) -> None:
    index, points = VectorIndex.open(tmp_path / "i", WIDTH, 1000), _points(2000)
    index.add(_names(0, 2000), points)
    found = index.search(points[:20], 5)[0]
    part = next((tmp_path / "i").glob("ann-*.faiss"))
    part.write_bytes(part.read_bytes()[:100])
    again = VectorIndex.open(tmp_path / "i", WIDTH, 1000)
    assert again.search(points[:20], 5)[0] == found
    again.add(["new"], np.ones((1, WIDTH)))
    assert next((tmp_path / "i").glob("ann-*.faiss")).stat().st_size > 100, "it is stored anew with the next change"


def test_a_writer_that_missed_anothers_work_is_refused(tmp_path: Path) -> None:
    one, other = (VectorIndex.open(tmp_path / "i", WIDTH) for _ in range(2))
    one.add(["a"], np.ones((1, WIDTH)))
    with pytest.raises(QI2Error, match="another process"):
        other.add(["b"], np.ones((1, WIDTH)))
    assert VectorIndex.open(tmp_path / "i", WIDTH).ids == ["a"]


WRITER = """
import sys, numpy as np
from pathlib import Path
from qi2.flywheel.retrieval.index import VectorIndex
index = VectorIndex.open(Path(sys.argv[1]), 32, 600)
step = len(index) // 50
while True:
    points = np.random.default_rng(step).standard_normal((50, 32))
    index.add([f"{step}-{i}" for i in range(50)], points)
    print(step, flush=True)
    step += 1
"""


def test_a_kill_at_any_moment_leaves_all_that_was_acknowledged_and_no_half_of_the_rest(tmp_path: Path) -> None:
    acknowledged, draw = -1, np.random.default_rng(5)
    for _ in range(6):
        command = [sys.executable, "-c", WRITER, str(tmp_path / "i")]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert writer.stdout is not None
        acknowledged = int(writer.stdout.readline())  # it lives
        time.sleep(float(draw.uniform(0, 0.3)))
        writer.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *(int(line) for line in writer.stdout.read().split())])
        writer.wait()
        index = VectorIndex.open(tmp_path / "i", 32, 600)
        assert len(index) % 50 == 0 and len(index) // 50 in (acknowledged + 1, acknowledged + 2)
        step = acknowledged
        points = np.random.default_rng(step).standard_normal((50, 32))
        assert index.search(points, 1)[0] == [[f"{step}-{i}"] for i in range(50)]
    names = set(json.loads((tmp_path / "i" / "manifest.json").read_bytes())["files"])
    index.add(["last"], np.ones((1, 32)))
    left = {path.name for path in (tmp_path / "i").iterdir()} - {"manifest.json", ".lock"}
    assert left == set(json.loads((tmp_path / "i" / "manifest.json").read_bytes())["files"]) and names


def test_a_reader_beside_a_writer_always_sees_a_whole_state(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "i")]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert writer.stdout is not None
    writer.stdout.readline()
    seen, until = [0], time.monotonic() + 120
    while seen[-1] < 1500 and time.monotonic() < until:
        seen.append(len(VectorIndex.open(tmp_path / "i", 32, 600)))
    assert writer.poll() is None, "reading stopped the writer"
    writer.kill()
    writer.wait()
    assert seen == sorted(seen) and all(size % 50 == 0 for size in seen) and seen[-1] >= 1500


def test_opening_writes_nothing_and_needs_no_right_to_write(tmp_path: Path) -> None:
    index, points = VectorIndex.open(tmp_path / "i", WIDTH, 1000), _points(2000)
    index.add(_names(0, 2000), points)
    before = {path.name: path.read_bytes() for path in (tmp_path / "i").iterdir()}
    for path in [*(tmp_path / "i").iterdir(), tmp_path / "i"]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    found = VectorIndex.open(tmp_path / "i", WIDTH, 1000).search(points[:20], 5)[0]
    assert found == index.search(points[:20], 5)[0] and before == {path.name: path.read_bytes() for path in (tmp_path / "i").iterdir()}
    (tmp_path / "i").chmod(0o700)
