"""Feedback by command and as JSONL: taken whole or not at all, named where it is bad, for no more than was allowed, and forgotten when asked."""

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from qi2.cli import main
from qi2.cli.feedback import _ask
from qi2.core.errors import QI2Error
from qi2.core.pictures import decode
from qi2.flywheel.intake.feedback import Feedback
from qi2.flywheel.intake.lines import MAX_LINE, read_lines
from qi2.flywheel.retrieval.leaks import HeldOut
from qi2.flywheel.review.candidate import Candidate
from qi2.flywheel.review.queue import Mode, ReviewQueue
from qi2.flywheel.signals import Signal
from qi2.flywheel.store import SignalStore
from qi2.flywheel.tracks.pretraining import write_accepted
from qi2.recipe import Recipe
from tasks.flywheel import parts
from tests.flywheel.serving import blank, filled


def png(image: Image.Image | None = None) -> bytes:
    buffer = io.BytesIO()
    (image or blank()).save(buffer, "PNG")
    return buffer.getvalue()


def bomb(side: int = 50_000) -> bytes:
    """A PNG of a few kilobytes that claims side x side pixels."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    rows = zlib.compress(bytes(1 << 20), 9)
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def text_bomb() -> bytes:
    """A PNG whose text chunk unpacks to 64 MiB."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    return png()[:33] + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(64 << 20), 9)) + png()[33:]


def command(*words: str) -> int:
    return main(["feedback", *words])


def test_a_bad_picture_is_told_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blank().save(tmp_path / "a.png")
    words = [str(tmp_path / "a.png"), "--prompt", "a cat", "--verdict", "bad", "--why", "no cat", "--subject", "anna", "--store", str(tmp_path / "s")]
    assert command(*words) == 0 and "stored" in capsys.readouterr().out
    assert command(*words) == 0 and "known" in capsys.readouterr().out  # twice is once
    store = SignalStore(tmp_path / "s")
    (signal,) = store.all()
    assert signal.source == "feedback" and signal.verdict == {"said": "bad", "words": "no cat"} and signal.task == "t2i"
    assert signal.consent == "diagnosis" and not signal.trainable and signal.subject == "anna"
    assert store.picture(signal.picture).tobytes() == blank().tobytes()


def test_an_edit_comes_with_its_references_and_consent_is_as_it_was_given(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.new("RGB", (8, 8), (9, 9, ord(name))).save(tmp_path / f"{name}.png")
    words = ["--reference", str(tmp_path / "b.png"), "--consent", "training", "--store", str(tmp_path / "s")]
    assert command(str(tmp_path / "a.png"), "--prompt", "make it blue", "--verdict", "bad", *words) == 0
    (signal,) = SignalStore(tmp_path / "s").all()
    assert signal.task == "ti2i" and len(signal.references) == 1 and signal.trainable


def test_praise_is_kept_and_is_no_failure(tmp_path: Path) -> None:
    blank().save(tmp_path / "a.png")
    empty = SignalStore(tmp_path / "s").digest()
    assert command(str(tmp_path / "a.png"), "--prompt", "a cat", "--verdict", "good", "--store", str(tmp_path / "s")) == 0
    store = SignalStore(tmp_path / "s")
    assert store.all() == [] and len(store.praised()) == 1 and store.digest() == empty


def test_consent_is_asked_and_silence_is_the_least() -> None:
    assert _ask(True, lambda question: "y") == "training" and _ask(True, lambda question: "") == _ask(True, lambda question: "maybe") == "diagnosis"
    assert _ask(False, lambda question: "y") == "diagnosis"
    assert Feedback("a cat", "bad").consent == "diagnosis"


def test_a_person_is_forgotten_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blank().save(tmp_path / "a.png")
    where = ["--store", str(tmp_path / "s"), "--queue", str(tmp_path / "q")]
    assert command(str(tmp_path / "a.png"), "--prompt", "her violet secret", "--verdict", "bad", "--subject", "anna", "--consent", "training", *where) == 0
    (signal,) = SignalStore(tmp_path / "s").all()
    queue = ReviewQueue(tmp_path / "q")
    queue.put([Candidate("c", "t2i", "her violet secret", queue.keep(blank()), (), {"signal": signal.id})])
    queue.close()
    assert command("forget", "anna", *where) == 0 and "1 signals and 1 candidates" in capsys.readouterr().out
    left = b"".join(path.read_bytes() for place in ("s", "q") for path in sorted((tmp_path / place).rglob("*")) if path.is_file())
    assert b"violet" not in left and b"anna" not in left and signal.id.encode() not in left and png() not in left
    assert command("forget", "anna", *where) == 1
    assert command(str(tmp_path / "a.png"), "--prompt", "her violet secret", "--verdict", "bad", "--subject", "anna", *where) == 1
    assert "deleted before" in capsys.readouterr().err


def accepted_round(home: Path, signal: Signal) -> None:
    """A round of a scale that acted on a signal: records, an example, one accepted sample; a queue with another undecided one."""
    queue = ReviewQueue(home / "queue")
    made = Candidate("c", "t2i", "a picture", queue.keep(blank()), (), {"signal": signal.id, "how": "render"})
    queue.put([made], f"{home.name}/001", Mode("waived", "round"))
    write_accepted(queue, home / "accepted", HeldOut())
    queue.close()
    (home / "rounds" / "001").mkdir(parents=True)
    (home / "prompts").mkdir()
    row = {"signal": signal.id, "track": "prompt", "evidence": {}, "reason": "why.", "prompt": signal.prompt}
    (home / "rounds" / "001" / "decisions.jsonl").write_text(f"{json.dumps(row)}\n")
    (home / "prompts" / "examples.jsonl").write_text(f"{json.dumps({'signal': signal.id, 'short': signal.prompt, 'fine': 'a picture'})}\n")


def test_forgetting_reaches_every_scale_and_says_which_stages_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blank().save(tmp_path / "a.png")
    base = tmp_path / "flywheel"
    where = ["--store", str(base / "signals")]
    assert command(str(tmp_path / "a.png"), "--prompt", "her violet secret", "--verdict", "bad", "--subject", "anna", "--consent", "training", *where) == 0
    (signal,) = SignalStore(base / "signals").all()
    for scale in ("smoke", "tiny"):
        accepted_round(base / scale, signal)
    (base / "smoke" / "prompts" / "examples.jsonl").unlink()
    capsys.readouterr()
    assert command("forget", "anna", *where) == 0
    said = capsys.readouterr().out
    assert "1 signals and 2 candidates made from them are erased, and what 3 files of rounds said of them" in said
    again = "repeats accepted, sft, rlhf, distill, enhancer, evaluate: prefect deployment run flywheel/prod -p scale"
    assert f"{again}=smoke" in said and f"{again}=tiny" in said
    assert "repeat enhancer_sft, enhancer, evaluate: make run SCALE=tiny" in said and "make run SCALE=smoke" not in said
    files = [path for path in base.rglob("*") if path.is_file() and "accepted" not in path.parts]  # which the next round takes anew
    left = b"".join(path.read_bytes() for path in files)
    assert b"violet" not in left and b"anna" not in left and signal.id.encode() not in left
    assert command("forget", "anna", *where) == 1


def test_a_cut_off_deletion_is_finished_by_the_same_command(tmp_path: Path) -> None:
    blank().save(tmp_path / "a.png")
    base = tmp_path / "flywheel"
    where = ["--store", str(base / "signals")]
    assert command(str(tmp_path / "a.png"), "--prompt", "her violet secret", "--verdict", "bad", "--subject", "anna", "--consent", "training", *where) == 0
    store = SignalStore(base / "signals")
    accepted_round(base / "tiny", store.all()[0])
    ReviewQueue(base / "tiny" / "queue").forget(store.ids_of("anna"))
    store.delete(subject="anna", why="asked")
    assert command("forget", "anna", *where) == 0
    assert (base / "tiny" / "rounds" / "001" / "decisions.jsonl").read_text() == (base / "tiny" / "prompts" / "examples.jsonl").read_text() == ""


def test_review_is_of_one_scale_and_a_shared_queue_of_before_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for scale, n in (("tiny", 3), ("smoke", 1)):
        filled(tmp_path / "flywheel" / scale / "queue", n).close()
    assert main(["flywheel", "review", "smoke", "--mode", "waived"]) == 0
    said = capsys.readouterr().out
    assert "mode waived for what was undecided of tiny/001" in said and "smoke/queue: 0 of 1 candidates" in said
    assert main(["flywheel", "review", "--status"]) == 0 and "tiny/queue: 3 of 3 candidates" in capsys.readouterr().out
    assert main(["flywheel", "review", "smoke", "--mode", "waived"]) == 0 and "later rounds have the mode of flywheel.review" in capsys.readouterr().out
    filled(tmp_path / "flywheel" / "queue", 1).close()
    assert main(["flywheel", "review", "--status"]) == 1 and "mv flywheel/queue flywheel/tiny/queue" in capsys.readouterr().err


def test_a_round_s_queue_is_its_scale_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [parts(Recipe(), scale).queue.folder for scale in ("tiny", "smoke")]
    assert folders == [Path("flywheel/tiny/queue"), Path("flywheel/smoke/queue")]


def write(folder: Path, *rows: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    blank().save(folder / "a.png")
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    (folder / "f.jsonl").write_bytes(b"\n".join(lines))
    return folder / "f.jsonl"


def row(**more: Any) -> dict[str, Any]:
    return {"image": "a.png", "prompt": "a cat", "verdict": "bad"} | more


BAD: list[tuple[Any, str]] = [
    (b"{", "no JSON"),
    (b"[1]", "one JSON object"),
    (b"[" * 9000, "no JSON"),
    (b'{"x": "' + b"y" * 2 * MAX_LINE + b'"}', "longer than"),
    (row(sauce=1), "no field 'sauce'"),
    (row(concent="training"), "no field 'concent'"),
    ({"image": "a.png", "verdict": "bad"}, "prompt is missing"),
    ({"prompt": "a", "verdict": "bad"}, "image is missing"),
    (row(verdict="awful"), "verdict is bad or good"),
    (row(consent="own"), "consent is diagnosis or training"),
    (row(prompt=" "), "say the prompt"),
    (row(prompt=7), "prompt is a text"),
    (row(prompt="x" * 8001), "at most 8000"),
    (row(why="a\u0000b"), "control characters"),
    (row(why="\ud800"), "control characters"),
    (row(image="../outside.png"), "outside"),
    (row(image="/etc/passwd"), "outside"),
    (row(image="link.png"), "outside"),
    (row(image="a\u0000.png"), "no picture's name"),
    (row(image=["a.png"]), "no picture's name"),
    (row(image=""), "no picture's name"),
    (row(image="\ud800.png"), "no picture's name"),
    (b'{"image": "\xed\xa0\x80.png", "prompt": "a cat", "verdict": "bad"}', "no picture's name"),
    (row(image="circle.png"), "picture"),
    (row(image="nosuch.png"), "there is no picture"),
    (row(image="."), "there is no picture"),
    (row(image="text.png"), "no whole PNG"),
    (row(image="bomb.png"), "too many pixels"),
    (row(image="half.png"), "no whole PNG"),
    (row(image="large.png"), "3000x3000"),
    (row(references="a.png"), "list of files"),
    (row(references=["a.png"] * 11), "at most 10"),
]


def test_good_lines_are_taken_and_every_bad_one_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "in", row(), *(bad for bad, _ in BAD), b"", row(prompt="a dog", subject="anna", consent="training"))
    blank().save(tmp_path / "outside.png")
    (path.parent / "link.png").symlink_to(tmp_path / "outside.png")
    (path.parent / "circle.png").symlink_to(path.parent / "circle.png")
    (path.parent / "text.png").write_text("no picture")
    (path.parent / "bomb.png").write_bytes(bomb())
    (path.parent / "large.png").write_bytes(bomb(3000))
    (path.parent / "half.png").write_bytes(png()[:60])
    store = SignalStore(tmp_path / "s")
    found = read_lines(path, store)
    assert found.new == 2 and len(found.bad) == len(BAD) and [signal.prompt for signal in store.all()] == ["a cat", "a dog"]
    for number, (said, (_, told)) in enumerate(zip(found.bad, BAD, strict=True), start=2):
        assert said.startswith(f"{path}:{number}: ") and told in said
    again = read_lines(path, store)
    assert (again.new, again.known, again.bad) == (0, 2, found.bad)


def test_the_command_takes_a_file_and_fails_where_a_line_is_bad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "in", row(), b"{")
    assert command(str(path), "--store", str(tmp_path / "s")) == 1
    said = capsys.readouterr()
    assert "1 new, 0 known before, 1 refused" in said.out and f"{path}:2" in said.err
    assert command(str(write(tmp_path / "in", row(), row(prompt="b"))), "--store", str(tmp_path / "s")) == 0
    assert command(str(tmp_path / "nosuch.jsonl"), "--store", str(tmp_path / "s")) == 1


def test_what_a_line_leaves_out_is_said_by_the_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = {"subject": "eve", "consent": "diagnosis", "model": "other", "kind": "cats"}
    path = str(write(tmp_path / "in", row(), row(**own)))
    assert command(path, "--subject", "anna", "--consent", "training", "--model", "mine", "--kind", "shop", "--store", str(tmp_path / "s")) == 0
    found = [(s.subject, s.consent, s.model, s.kind) for s in SignalStore(tmp_path / "s").all()]
    assert found == [("anna", "training", "mine", "shop"), ("eve", "diagnosis", "other", "cats")]
    for option in (["--prompt", "x"], ["--verdict", "bad"], ["--why", "x"], ["--reference", "a.png"]):
        assert command(path, *option, "--store", str(tmp_path / "s")) == 1 and f"{option[0]} is said of one picture" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["flywheel", "signals"], ["feedback", "consent", "anna", "training"]])
def test_a_store_that_is_not_there_is_not_made_by_whoever_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main([*words, "--store", str(tmp_path / "typo")]) == 1 and "typo is no store of signals" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a", bomb(), bomb(3000), text_bomb(), png()[:50], png().replace(b"IDAT", b"IDAX"), b"\x89PNG\r\n\x1a\n" + b"\xff" * 99, b"<svg/>"]
)
def test_what_is_no_whole_picture_of_allowed_size_is_refused(data: bytes) -> None:
    with pytest.raises(QI2Error):
        decode(data, "it")


def test_pictures_of_every_allowed_kind_become_plain_pixels() -> None:
    for form, mode in (("PNG", "RGBA"), ("PNG", "P"), ("PNG", "I;16"), ("PNG", "1"), ("JPEG", "L"), ("JPEG", "CMYK"), ("WEBP", "RGB")):
        buffer = io.BytesIO()
        (Image.new(mode, (20, 10)) if mode == "I;16" else blank().resize((20, 10)).convert(mode)).save(buffer, form)
        found = decode(buffer.getvalue(), "it")
        assert found.mode == "RGB" and found.size == (20, 10) and not found.info


def test_the_signals_command_counts_and_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read_lines(
        write(tmp_path / "in", row(), row(prompt="bad\u202e \u001b[2J".replace("\u001b", "") + "name", consent="training"), row(prompt="x", verdict="good")),
        SignalStore(tmp_path / "s"),
    )
    assert main(["flywheel", "signals", "--store", str(tmp_path / "s"), "--list", "9"]) == 0
    out = capsys.readouterr().out
    assert "version 3, 2 failures" in out and "1 may enter training" in out and "1 pictures that people called good" in out and "\u202e" not in out
    assert main(["flywheel", "signals", "--store", str(tmp_path / "s"), "--json"]) == 0
    assert [json.loads(line)["prompt"] for line in capsys.readouterr().out.splitlines()][0] == "a cat"


def test_what_a_person_allows_is_changed_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blank().save(tmp_path / "a.png")
    words = [str(tmp_path / "a.png"), "--prompt", "a cat", "--verdict", "bad", "--store", str(tmp_path / "s")]
    assert command(*words, "--subject", "anna", "--consent", "training") == 0 and command("consent", "anna", "diagnosis", "--store", str(tmp_path / "s")) == 0
    assert "1 of 1 signals are for diagnosis from version 2 on" in capsys.readouterr().out
    assert command(*words, "--subject", "anna", "--consent", "training") == 0 and "known" in (told := capsys.readouterr().out) and "for diagnosis" in told
    store = SignalStore(tmp_path / "s")
    assert not store.all()[0].trainable and store.all(1)[0].trainable
    assert command("consent", store.all()[0].id, "training", "--store", str(tmp_path / "s")) == 0 and store.all()[0].trainable
    for wrong, why in (
        (["consent", "anna"], "say whose and what"),
        (["consent", "anna", "all"], "not to 'all'"),
        (["consent", "eve", "training"], "nothing of eve"),
    ):
        assert command(*wrong, "--store", str(tmp_path / "s")) == 1 and why in capsys.readouterr().err
