"""The store: nothing half-written is ever read, nothing is drawn twice, and what is unused is named."""

import multiprocessing
import os
from pathlib import Path

import pytest
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.evaluation.store import Store, key_of

RED, BLUE = (Image.new("RGB", (8, 8), color) for color in ("red", "blue"))


def facts(noise: int) -> dict[str, object]:
    return {"model": "abc", "prompt": "p", "noise": noise}


def test_a_picture_comes_back_as_it_was_under_the_key_of_its_facts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add("sft", [facts(1), facts(2)], [RED, BLUE], 3.0)
    again = Store(tmp_path)
    found = again.find([key_of(facts(1)), key_of(facts(2)), key_of(facts(3))])
    assert set(found) == {key_of(facts(1)), key_of(facts(2))}
    assert again.read(found[key_of(facts(2))]).tobytes() == BLUE.tobytes()
    assert again.seconds(list(found)) == 3.0
    assert again.models() == [("sft", 2, 3.0)]


def test_equal_pictures_are_kept_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert len(set(store.add("sft", [facts(1), facts(2)], [RED, RED.copy()], 1.0))) == 1
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == 1


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_or_lost_picture_counts_as_missing_and_is_mended_by_drawing_again(tmp_path: Path, damage: str) -> None:
    store, name = Store(tmp_path), key_of(facts(1))
    (picture,) = store.add("sft", [facts(1)], [RED], 1.0)
    if damage == "cut":
        store.path(picture).write_bytes(store.path(picture).read_bytes()[:30])
    else:
        store.path(picture).unlink()
    with pytest.raises(QI2Error, match="drawn again"):
        store.read(picture)
    assert store.find([name]) == {}
    store.add("sft", [facts(1)], [RED], 1.0)
    assert store.find([name]) == {name: picture}


def test_a_place_that_cannot_be_written_is_named_and_nothing_is_indexed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for prefix in range(256):
        (tmp_path / "pictures" / f"{prefix:02x}").write_bytes(b"a file where a folder should be")
    with pytest.raises(QI2Error, match="could not be written"):
        store.add("sft", [facts(1)], [RED], 1.0)
    assert store.find([key_of(facts(1))]) == {}


def test_garbage_is_what_the_index_does_not_name(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (picture,) = store.add("sft", [facts(1)], [RED], 1.0)
    stray, half = store.path(picture).with_name("ff.png"), store.path(picture).with_name(".x.png.12.ab")
    stray.write_bytes(b"a picture whose run was killed")
    half.write_bytes(b"half")
    assert store.garbage() == sorted([stray, half])


def test_a_files_hash_is_remembered_until_it_changes(tmp_path: Path) -> None:
    store, path = Store(tmp_path / "store"), tmp_path / "model.safetensors"
    path.write_bytes(b"one")
    first = store.file_hash(path)
    assert store.file_hash(path) == first
    path.write_bytes(b"three")
    assert store.file_hash(path) != first


def _add(folder: Path, start: int) -> None:
    store = Store(folder)
    for noise in range(start, start + 20):
        store.add("sft", [facts(noise)], [Image.new("RGB", (8, 8), (noise, 0, 0))], 0.1)


def test_several_processes_may_write_at_once(tmp_path: Path) -> None:
    Store(tmp_path).close()
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add, args=(tmp_path, start)) for start in (0, 10, 20)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(Store(tmp_path).find([key_of(facts(noise)) for noise in range(40)])) == 40


def test_a_damaged_index_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(QI2Error, match=r"index\.sqlite is damaged"):
        Store(tmp_path)


def test_pruning_removes_unused_files_and_what_was_not_asked_for_longest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    pictures = store.add("sft", [facts(n) for n in range(4)], [Image.new("RGB", (8, 8), (n, 0, 0)) for n in range(4)], 1.0)
    stray = store.path(pictures[0]).with_name("ff.png")
    stray.write_bytes(b"a picture whose run was killed")
    for age, path in enumerate([*map(store.path, pictures), stray]):
        os.utime(path, (1e9 + age, 1e9 + age))
    store.find([key_of(facts(0))])  # asked for just now
    sizes = [store.path(picture).stat().st_size for picture in pictures]
    assert store.prune(sizes[0] + sizes[3]) == (3, sizes[1] + sizes[2] + 30)
    assert set(store.find([key_of(facts(n)) for n in range(4)])) == {key_of(facts(0)), key_of(facts(3))}
    assert store.garbage() == []
    assert store.prune(0)[0] == 0  # what was asked for within the hour stays
