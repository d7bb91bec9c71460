"""Publishing that is killed, runs out of disk or may not write loses nothing: the old version or the new one is there, and the next one succeeds."""

import errno
import itertools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from qi2.core.errors import QI2Error
from qi2.core.publish import newest_valid, publish, valid, verify, write_file
from tests.faults.faults import full_disk, in_child, killed, limited

Fault = Callable[[int], Callable[[], None]]


def _version(number: int, folder: Path) -> None:
    with publish(folder / "result") as staging:
        (staging / "part").mkdir()
        (staging / "part" / "model.safetensors").write_bytes(save({"weight": torch.full((64, 64), float(number))}))
        (staging / "metrics.json").write_text(f'{{"version": {number}, "rest": "{"x" * 3000}"}}')


def _published(folder: Path) -> int:
    assert set(verify(folder / "result")) == {"metrics.json", "part/model.safetensors"}
    number = int(load_file(folder / "result" / "part" / "model.safetensors")["weight"][0, 0])
    assert f'"version": {number},' in (folder / "result" / "metrics.json").read_text()
    return number


def _fresh(parent: Path) -> Path:
    folder = parent / str(len(list(parent.iterdir())))
    folder.mkdir()
    folder.chmod(0o777)
    return folder


@pytest.mark.parametrize("before", [False, True])
def test_a_writer_killed_at_any_point_leaves_the_old_version_or_the_new(tmp_path: Path, before: bool) -> None:
    seen = set()
    for nth in itertools.count(1):
        folder = _fresh(tmp_path)
        if before:
            _version(1, folder)
        done, _ = in_child(folder, lambda place: _version(2, place), killed(nth))
        if before or (folder / "result").exists():
            seen.add(_published(folder))
        _version(3, folder)
        assert _published(folder) == 3
        assert os.listdir(folder) == ["result"]
        if done:
            break
    assert nth > 15
    assert seen == ({1, 2} if before else {2})


def test_a_next_writer_killed_while_it_mends_leaves_the_old_version_or_the_new(tmp_path: Path) -> None:
    for first, second in itertools.product(range(1, 200), range(1, 9)):
        folder = _fresh(tmp_path)
        _version(1, folder)
        if in_child(folder, lambda place: _version(2, place), killed(first))[0]:
            break
        if (folder / ".result.old").exists():
            in_child(folder, lambda place: _version(3, place), killed(second))
            assert _published(folder) in (1, 2)


def test_a_full_disk_at_any_point_keeps_the_old_version_and_says_what_to_do(tmp_path: Path) -> None:
    for nth in itertools.count(1):
        folder = _fresh(tmp_path)
        _version(1, folder)
        done, said = in_child(folder, lambda place: _version(2, place), full_disk(nth))
        if done:
            break
        assert _published(folder) in (1, 2)
        assert "result could not be written" in said and "free some space" in said
        _version(3, folder)
        assert os.listdir(folder) == ["result"]
    assert nth > 10


@pytest.mark.parametrize("kill", [False, True])
def test_a_write_that_is_cut_short_keeps_the_old_version(tmp_path: Path, kill: bool) -> None:
    for size in (0, 1, 100, 2999, 8000, 16000):
        folder = _fresh(tmp_path)
        _version(1, folder)
        done, said = in_child(folder, lambda place: _version(2, place), limited(size, kill))
        assert not done
        assert kill or "free some space" in said
        assert _published(folder) == 1
        assert kill or os.listdir(folder) == ["result"]


def test_a_disk_that_is_really_full_keeps_the_old_version(tmp_path: Path) -> None:
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", tmp_path], check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk takes rights that this user lacks")
    try:
        _version(1, tmp_path)
        for _ in range(2):
            with pytest.raises(QI2Error, match="free some space"), publish(tmp_path / "result") as staging:
                (staging / "large").write_bytes(bytes(60_000))
            with pytest.raises(QI2Error, match="free some space"), publish(tmp_path / "result") as staging:
                save_file({"weight": torch.zeros(20_000)}, staging / "large.safetensors")
            with pytest.raises(QI2Error, match="free some space"):
                write_file(tmp_path / "large.json", bytes(60_000))
            assert _published(tmp_path) == 1
            assert os.listdir(tmp_path) == ["result"]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize("locked", ["parent", "target"])
def test_a_read_only_place_keeps_the_old_version_and_says_what_to_do(tmp_path: Path, locked: str) -> None:
    folder = _fresh(tmp_path)
    assert in_child(folder, lambda place: _version(1, place), lambda: None, nobody=True) == (True, "")
    (folder if locked == "parent" else folder / "result").chmod(0o555)
    for _ in range(3):
        done, said = in_child(folder, lambda place: _version(2, place), lambda: None, nobody=True)
        assert locked == "target" or (not done and "make . writable" in said and _published(folder) == 1)
        assert _published(folder) in (1, 2)
    done, said = in_child(folder, lambda place: write_file(place / "config.json", b"{}"), lambda: None, nobody=True)
    assert done == (locked == "target")
    assert done or "config.json could not be written" in said


FILES: dict[str, tuple[Callable[[int], bytes], Callable[[bytes], int]]] = {
    "model.safetensors": (
        lambda number: save({"weight": torch.full((64, 64), float(number))}),
        lambda data: int(torch.frombuffer(bytearray(data[-4:]), dtype=torch.float32)),
    ),
    "facts.json": (lambda number: f'{{"version": {number}}}'.encode().rjust(9000), lambda data: int(data.strip()[12:-1])),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "faults",
    [[killed(n) for n in range(1, 20)], [full_disk(n) for n in range(1, 20)], [limited(n, kill) for n in (0, 1, 4096, 8999) for kill in (True, False)]],
    ids=["killed", "full disk", "cut short"],
)
def test_a_single_file_is_the_old_version_or_the_new_at_any_fault(tmp_path: Path, name: str, faults: list[Callable[[], None]]) -> None:
    make, read = FILES[name]
    harmed = 0
    for install in faults:
        write_file(tmp_path / name, make(1))
        done, said = in_child(tmp_path, lambda place: write_file(place / name, make(2)), install)
        assert read((tmp_path / name).read_bytes()) in ((2,) if done else (1, 2))
        assert done or not said or f"{name} could not be written" in said
        harmed += not done
    write_file(tmp_path / name, make(3))
    assert read((tmp_path / name).read_bytes()) == 3
    assert harmed >= 4


@pytest.mark.parametrize(
    "damage", ["truncated", "missing", "manifest gone", "manifest truncated", "manifest of zeros", "manifest is a list", "no folder", "a file"]
)
def test_the_newest_whole_folder_is_chosen_and_never_a_damaged_one(tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2, 3):
        with publish(tmp_path / f"step-{number}") as staging:
            (staging / "state.bin").write_bytes(bytes(range(100)))
    newest = tmp_path / "step-3"
    text = (newest / "manifest.json").read_bytes()
    harm: dict[str, Callable[[], Any]] = {
        "truncated": lambda: (newest / "state.bin").write_bytes(b""),
        "missing": (newest / "state.bin").unlink,
        "manifest gone": (newest / "manifest.json").unlink,
        "manifest truncated": lambda: (newest / "manifest.json").write_bytes(text[: len(text) // 2]),
        "manifest of zeros": lambda: (newest / "manifest.json").write_bytes(bytes(len(text))),
        "manifest is a list": lambda: (newest / "manifest.json").write_text("[]"),
        "no folder": lambda: newest.rename(tmp_path / "elsewhere"),
        "a file": lambda: (newest.rename(tmp_path / "elsewhere"), newest.write_text("")),
    }
    harm[damage]()
    assert not valid(newest)
    assert newest_valid([tmp_path / f"step-{number}" for number in (1, 2, 3)]) == tmp_path / "step-2"
    assert f"passing over {newest}" in capsys.readouterr().err


def test_nothing_is_chosen_where_nothing_is_whole(tmp_path: Path) -> None:
    assert newest_valid([]) is None
    assert newest_valid([tmp_path / "none"]) is None


def test_an_error_of_what_the_writer_reads_is_not_taken_for_one_of_its_place(tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match="photo"), publish(tmp_path / "result"):
        raise PermissionError(errno.EACCES, "Permission denied", "/data/photo.jpg")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "rank", [{"RANK": "1"}, {"LOCAL_RANK": "1"}, {"NODE_RANK": "1", "LOCAL_RANK": "0"}, {"SLURM_PROCID": "3"}, {"LOCAL_RANK": "1", "SLURM_PROCID": "0"}]
)
def test_other_ranks_publish_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: dict[str, str]) -> None:
    _version(1, tmp_path)
    for name, value in rank.items():
        monkeypatch.setenv(name, value)
    with publish(tmp_path / "result") as staging:
        (staging / "metrics.json").write_text("another rank's")
    assert not staging.exists()
    assert _published(tmp_path) == 1
    assert os.listdir(tmp_path) == ["result"]


def test_the_main_rank_publishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0", "SLURM_PROCID": "2"}.items():  # torchrun under srun
        monkeypatch.setenv(name, value)
    _version(1, tmp_path)
    assert _published(tmp_path) == 1
