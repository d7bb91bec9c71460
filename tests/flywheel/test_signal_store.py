"""Signals are stored safely: versioned, only ever added, on the disk when acknowledged, and erased where their person asks."""

import json
import os
import signal as signals
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from qi2.core.errors import QI2Error
from qi2.flywheel.signals import Signal
from qi2.flywheel.store import SignalStore

SECRET = "a wine-red xylophone under the old bridge"
WRITER = """
import sys
from pathlib import Path
from PIL import Image
from qi2.flywheel.signals import Signal
from qi2.flywheel.store import SignalStore
store = SignalStore(Path(sys.argv[1]))
for i in range(100000):
    picture = store.keep(Image.new("RGB", (8, 8), (i % 256, i // 256, 0)))
    store.add([Signal("feedback", "t2i", "own", f"prompt {i}", "sft", picture=picture, consent="training", subject=f"s{i % 7}")])
    print(i, flush=True)
"""


def failure(prompt: str = "a red circle", **more: object) -> Signal:
    return Signal(**({"source": "evaluation", "task": "t2i", "kind": "one", "prompt": prompt, "model": "sft"} | more))  # type: ignore[arg-type]


def given(prompt: str = SECRET, **more: object) -> Signal:
    return failure(prompt, **({"source": "feedback", "consent": "training", "subject": "anna"} | more))


def square(shade: int = 0) -> Image.Image:
    return Image.new("RGB", (16, 16), (shade, 120, 30))


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_a_signal_comes_back_as_it_was(tmp_path: Path) -> None:
    store = SignalStore(tmp_path / "deep" / "store")
    picture, reference = store.keep(square()), store.keep(square(9))
    one = failure(
        "Rot – 'é' \u2028 <b>", picture=picture, references=(reference,), verdict={"attributes": {"count": False}}, provenance={"run": "x"}, seed=2**62
    )
    assert store.add([one]) == 1 and store.all() == [one] and store.find(one.id) == one
    assert Signal.from_json(one.to_json()) == one and SignalStore(tmp_path / "deep" / "store").all() == [one]
    assert store.picture(picture).tobytes() == square().tobytes()


def test_the_same_failure_told_twice_is_one(tmp_path: Path) -> None:
    store = SignalStore(tmp_path)
    assert store.add([failure(), failure(), failure("other")]) == 2 and store.add([failure(provenance={"run": "again"})]) == 0
    assert len(store.all()) == 2 and store.version == 2


def test_the_same_prompt_that_fails_with_other_weights_is_another_failure(tmp_path: Path) -> None:
    store = SignalStore(tmp_path)
    for weights, new in (("ab", 1), ("cd", 1), ("ab", 0)):
        assert store.add([failure(provenance={"weights": weights, "item": "t2i-0"})]) == new
    assert [one.provenance["weights"] for one in store.all()] == ["ab", "cd"] and len({one.id for one in store.all()}) == 2
    assert failure(provenance={"weights": ""}).id == failure().id == failure(provenance={"item": "t2i-0"}).id


def test_the_id_that_a_signal_was_stored_with_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SignalStore(tmp_path)
    with monkeypatch.context() as older:
        older.setattr(Signal, "id", property(lambda self: f"older {self.prompt}"))
        store.add([failure("a", provenance={"weights": "ab"}), failure("b"), failure("c", verdict={"said": "good"})])
    found = store.all()
    assert [one.id for one in found] == ["older a", "older b"] and [one.id for one in store.praised()] == ["older c"]
    assert store.find("older a") == found[0] and store.delete(id=found[0].id, why="asked") == 1 and len(store.all()) == 1


def test_an_old_version_is_read_as_it_was(tmp_path: Path) -> None:
    store = SignalStore(tmp_path)
    store.add([failure("a"), failure("b")])
    version, digest = store.version, store.digest()
    store.add([failure("c")])
    assert [one.prompt for one in store.all(version)] == ["a", "b"] and store.digest(version) == digest != store.digest()
    assert SignalStore(tmp_path / "other").add([failure("a"), failure("b")]) == 2 and SignalStore(tmp_path / "other").digest() == digest
    with pytest.raises(QI2Error, match="versions 0 to 3, not 4"):
        store.all(4)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"source": "rumour"}, "source is one of evaluation"),
        ({"task": "video"}, "task is one of t2i"),
        ({"prompt": "  "}, "prompt is a text that is not empty"),
        ({"prompt": 3}, "prompt is a text"),
        ({"prompt": "x" * 20_001}, "20001 characters"),
        ({"prompt": "\ud800"}, "surrogate"),
        ({"picture": "../../etc/passwd"}, "sha256 that SignalStore.keep gave"),
        ({"references": ["a" * 64]}, "references"),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
        ({"heldout": 1}, "heldout"),
        ({"verdict": {"reward": float("nan")}}, "finite"),
        ({"verdict": [1]}, "objects"),
        ({"provenance": {"x": object()}}, "JSON"),
        ({"verdict": {"words": "y" * 200_000}}, "at most 200000"),
        ({"subject": "anna"}, "consent"),
        ({"consent": "everything"}, "consent is one of own"),
    ],
)
def test_a_wrong_signal_says_what_is_wrong(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(QI2Error, match=told):
        failure(**wrong)


@pytest.mark.parametrize(
    ("line", "told"), [("{", "none"), ("[1]", "object"), ('{"sauce": 1}', "no field 'sauce'"), ('{"source": "mining"}', "lacks 'task'"), ("[" * 9999, "none")]
)
def test_a_wrong_line_says_what_is_wrong(line: str, told: str) -> None:
    with pytest.raises(QI2Error, match=told):
        Signal.from_json(line)


def test_nothing_is_stored_where_one_signal_names_a_missing_picture(tmp_path: Path) -> None:
    store = SignalStore(tmp_path)
    with pytest.raises(QI2Error, match="keep it first"):
        store.add([failure(), failure("b", picture="0" * 64)])
    assert store.all() == [] and store.version == 0


def test_only_what_people_or_we_allow_is_trainable() -> None:
    assert failure().trainable and given().trainable
    assert not failure(heldout=True).trainable and not given(consent="diagnosis").trainable and not given(heldout=True).trainable


def test_a_stored_picture_is_nothing_but_pixels(tmp_path: Path) -> None:
    notes, place = PngInfo(), square()
    notes.add_text("GPS", "52.52, 13.40")
    place.save(tmp_path / "in.png", pnginfo=notes)
    store = SignalStore(tmp_path / "store")
    name = store.keep(Image.open(tmp_path / "in.png"))
    assert name == store.keep(square()) and b"52.52" not in everything(tmp_path / "store")
    assert stat.S_IMODE((tmp_path / "store" / "signals.sqlite").stat().st_mode) == 0o600


def test_deletion_erases_every_byte_and_only_that_persons(tmp_path: Path) -> None:
    store = SignalStore(tmp_path)
    alone, shared = store.keep(square(1)), store.keep(square(2))
    secret = b"".join([store.pictures.data(alone)])
    store.add([given(picture=alone, references=(shared,), task="ti2i"), given("another of hers"), given("his", subject="bert", picture=shared)])
    assert SECRET.encode() in everything(tmp_path) and secret in everything(tmp_path)
    assert store.delete(subject="anna", why="asked by mail on Monday") == 2
    left = everything(tmp_path)
    for trace in (SECRET.encode(), b"another of hers", b"anna", alone.encode(), secret, given(picture=alone).id.encode()):
        assert trace not in left
    assert [one.prompt for one in store.all()] == ["his"] and store.picture(shared).size == (16, 16)
    assert [stone["why"] for stone in store.tombstones()] == ["asked by mail on Monday"] * 2


def test_what_was_deleted_is_gone_from_every_version_and_not_taken_again(tmp_path: Path) -> None:
    store = SignalStore(tmp_path)
    store.add([failure("a"), given()])
    before, digest = store.version, store.digest()
    assert store.delete(id=given().id, why="asked") == 1 and store.delete(id=given().id, why="asked") == 0
    assert store.version == before + 1 and [one.prompt for one in store.all(before)] == ["a"] and store.digest(before) != digest
    assert store.add([given(), failure("b")]) == 1 and store.deleted(given().id) and store.find(given().id) is None
    assert SignalStore(tmp_path).add([given()]) == 0
    for wrong in ({"why": "x"}, {"why": " ", "subject": "x"}, {"why": "x", "subject": "a", "id": "b"}):
        with pytest.raises(QI2Error, match="one of them"):
            store.delete(**wrong)


def test_a_changed_consent_holds_from_its_version_on_and_earlier_ones_stay(tmp_path: Path) -> None:
    store = SignalStore(tmp_path)
    store.add([given(), given("another"), given("his", subject="bert", consent="diagnosis"), failure()])
    before, digest = store.version, store.digest()
    assert store.consent("diagnosis", subject="anna", why="asked by mail") == 2 == store.version - before
    assert store.consent("diagnosis", subject="anna", why="asked again") == 0 and store.version == before + 2
    assert [one.consent for one in store.all()] == ["diagnosis"] * 3 + ["own"] and not store.all()[0].trainable
    assert [one.consent for one in store.all(before)] == ["training"] * 2 + ["diagnosis", "own"]
    assert store.digest(before) == digest != store.digest() and store.find(given().id) == replace(given(), consent="diagnosis")
    assert store.consent("training", id=given("his", subject="bert").id, why="he allows it") == 1
    again = SignalStore(tmp_path)
    assert again.all()[2].trainable and not again.all(before + 2)[2].trainable and again.add([given()]) == 0 and again.all()[0].consent == "diagnosis"


def test_a_consent_that_is_none_or_nobodys_changes_nothing(tmp_path: Path) -> None:
    store = SignalStore(tmp_path)
    store.add([failure(), given()])
    for wrong, told in (({"subject": "anna", "why": " "}, "says why"), ({"why": "x"}, "one of them"), ({"id": failure().id, "why": "x"}, "project's own")):
        with pytest.raises(QI2Error, match=told):
            store.consent("diagnosis", **wrong)
    with pytest.raises(QI2Error, match="not to 'own'"):
        store.consent("own", subject="anna", why="x")
    assert store.version == 2 and store.all() == [failure(), given()]


def test_deletion_takes_changed_consents_with_it(tmp_path: Path) -> None:
    store = SignalStore(tmp_path)
    store.add([given(), given("his", subject="bert")])
    for name in ("anna", "bert"):
        store.consent("diagnosis", subject=name, why=f"a letter of {name} in June")
    assert b"a letter of anna" in everything(tmp_path)
    store.delete(subject="anna", why="asked")
    left = everything(tmp_path)
    assert b"a letter of anna" not in left and given().id.encode() not in left and b"a letter of bert" in left
    assert [(one.subject, one.consent) for one in store.all()] == [("bert", "diagnosis")] and store.version == 5


def test_a_killed_deletion_is_finished_by_the_next_opening(tmp_path: Path) -> None:
    """Killed after the commit: the rows are gone, the picture is still there."""
    store = SignalStore(tmp_path)
    picture = store.keep(square())
    store.add([given(picture=picture)])
    pid = os.fork()
    if pid == 0:
        child = SignalStore(tmp_path)
        child.erase = lambda: os.kill(os.getpid(), signals.SIGKILL)  # type: ignore[method-assign]
        child.delete(subject="anna", why="asked")
    assert os.waitpid(pid, 0)[1] == signals.SIGKILL and Path(store.pictures.path(picture)).exists()
    store.close()
    again = SignalStore(tmp_path)
    assert again.all() == [] and not again.pictures.path(picture).exists()
    assert SECRET.encode() not in everything(tmp_path) and again.version == 2


def test_a_picture_that_no_signal_ever_named_goes_after_a_while(tmp_path: Path) -> None:
    store = SignalStore(tmp_path)
    stray, young = store.keep(square(1)), store.keep(square(2))
    torn = store.pictures.path(stray).with_name(f".{stray}.png.123.ab")
    torn.write_bytes(b"half")
    for path in (store.pictures.path(stray), torn):
        os.utime(path, (time.time() - 7200,) * 2)
    again = SignalStore(tmp_path)
    assert not again.pictures.has(stray) and again.pictures.has(young) and not torn.exists()


def test_nothing_changes_or_goes_behind_the_stores_back(tmp_path: Path) -> None:
    store = SignalStore(tmp_path)
    bert = given("his", subject="bert")
    store.add([failure(), given(), bert])
    store.consent("diagnosis", subject="bert", why="asked")
    store.delete(subject="anna", why="asked")
    direct = sqlite3.connect(tmp_path / "signals.sqlite")
    changes = ("DELETE FROM {}", "UPDATE {} SET mark = 'x'")
    for statement in (change.format(table) for table in ("signals", "tombstones", "consents") for change in changes):
        with pytest.raises(sqlite3.Error):
            direct.execute(statement)
    assert store.all() == [failure(), replace(bert, consent="diagnosis")]


def test_no_acknowledged_signal_is_lost_in_a_kill(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "src:."})
    assert process.stdout is not None
    said = [int(process.stdout.readline()) for _ in range(25)]
    process.send_signal(signals.SIGKILL)
    said += [int(line) for line in process.stdout.read().split()]
    process.wait()
    store = SignalStore(tmp_path)
    found = store.all()
    assert {one.prompt for one in found} >= {f"prompt {i}" for i in said} and len(found) <= said[-1] + 2
    assert all(store.picture(one.picture).size == (8, 8) for one in found)


def test_several_processes_and_threads_add_at_once(tmp_path: Path) -> None:
    stores = [SignalStore(tmp_path) for _ in range(3)]
    threads = [threading.Thread(target=lambda s=s, k=k: [s.add([failure(f"{k} {i}"), failure("same")]) for i in range(15)]) for k, s in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores[0].all()) == 46 and stores[1].version == 46 and [row["number"] for row in stores[2].rows()] == list(range(1, 47))


def test_what_is_no_store_is_said_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "signals.sqlite").write_text("these are notes, please keep them " * 99)
    with pytest.raises(QI2Error, match="cannot hold signals"):
        SignalStore(tmp_path)
    assert "notes" in (tmp_path / "signals.sqlite").read_text()


def test_equal_signals_have_equal_ids_whatever_the_verdict(tmp_path: Path) -> None:
    assert failure().id == failure(verdict={"reward": 1}).id != failure(model="rlhf").id
    assert replace(failure(), seed=1).id != failure().id and json.loads(failure().to_json())["consent"] == "own"
