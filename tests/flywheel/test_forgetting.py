"""What was deleted leaves every record of a scale's rounds: decisions, reasons that quote its words, examples, wordings; what others said stays."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from qi2.flywheel.forgetting import ERASED, forget, homes
from qi2.flywheel.signals import Signal


def told(prompt: str, subject: str, consent: str = "training") -> Signal:
    return Signal("feedback", "t2i", "one", prompt, "rlhf", {}, consent=consent, subject=subject)


HERS, HIS, ALSO = told("a wine-red xylophone", "anna"), told("a red orb", "bert"), told("a blue orb", "anna")


def decision(signal: Signal, reason: str, name: str) -> dict[str, Any]:
    group = {"name": name, "training_prompts": {"red": 3, "xylophone": 0}}
    return {"signal": signal.id, "track": "prompt", "evidence": {"group": group, "own": {"wordings": {f"{signal.prompt} here": [1, 2]}}}, "reason": reason,
            "prompt": signal.prompt}  # fmt: skip


def records(home: Path) -> Path:
    """One round, what it taught, and the result of its step."""
    folder, prompts = home / "rounds" / "001", home / "prompts"
    folder.mkdir(parents=True)
    prompts.mkdir()
    reasons = [
        "t2i/one with xylophone: rare; 'xylophone' in 0 training prompts.",
        "t2i/one without xylophone: bad luck.",
        "1 wordings: circle: orb, xylophone.",
    ]
    lines = [decision(HERS, reasons[0], "t2i/one with xylophone"), *(decision(one, reasons[1], "t2i/one without xylophone") for one in (HIS, ALSO))]
    (folder / "decisions.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    for path in (folder / "state.json", folder / "report.json", home / "result.json"):
        path.write_text(json.dumps({"number": 1, "reasons": reasons, "counts": {"prompt": 3}}, indent=1))
    (folder / "report.md").write_text("# Round\n\n" + "".join(f"- {reason}\n" for reason in reasons))
    (prompts / "wordings.json").write_text(json.dumps({"circle": ["orb", "xylophone"], "glockenspiel": ["xylophone"]}))
    examples = [{"signal": one.id, "task": "t2i", "short": one.prompt, "reasoning": "r", "fine": "f"} for one in (HERS, HIS, ALSO)]
    (prompts / "examples.jsonl").write_text("".join(f"{json.dumps(example)}\n" for example in examples))
    return home


def everything(home: Path) -> str:
    return "".join(path.read_text() for path in sorted(home.rglob("*")) if path.is_file())


def test_a_person_s_words_leave_every_record_and_those_that_others_say_stay(tmp_path: Path) -> None:
    home = records(tmp_path / "tiny")
    assert "xylophone" in everything(home) and HERS.id in everything(home)
    changed = forget(home, [HIS])
    left = everything(home)
    assert not any(word in left for word in ("xylophone", "wine-red", HERS.id, ALSO.id, "blue")) and HIS.id in left
    assert {path.name for path in changed} == {"decisions.jsonl", "state.json", "report.json", "result.json", "wordings.json", "examples.jsonl"}
    assert json.loads((home / "prompts" / "wordings.json").read_text()) == {"circle": ["orb"]}
    (kept,) = [json.loads(line) for line in (home / "rounds" / "001" / "decisions.jsonl").read_text().splitlines()]
    assert kept["reason"] == f"t2i/one without {ERASED}: bad luck." and kept["evidence"]["group"]["training_prompts"] == {"red": 3, ERASED: 0}
    assert f"- t2i/one without {ERASED}: bad luck." in (home / "rounds" / "001" / "report.md").read_text()


def test_nothing_changes_where_nothing_was_deleted_and_a_second_time(tmp_path: Path) -> None:
    home = records(tmp_path / "tiny")
    before = everything(home)
    assert forget(home, [HERS, HIS, ALSO]) == [] and everything(home) == before
    assert forget(home, [HIS]) and forget(home, [HIS]) == []


def test_examples_of_people_who_took_consent_back_go_and_their_words_stay(tmp_path: Path) -> None:
    home = records(tmp_path / "tiny")
    assert forget(home, [replace(HERS, consent="diagnosis"), HIS, ALSO]) == [home / "prompts" / "examples.jsonl"]
    assert [json.loads(line)["signal"] for line in (home / "prompts" / "examples.jsonl").read_text().splitlines()] == [HIS.id, ALSO.id]


def test_every_scale_is_found(tmp_path: Path) -> None:
    records(tmp_path / "tiny")
    (tmp_path / "signals").mkdir()
    (tmp_path / "smoke" / "queue").mkdir(parents=True)
    (tmp_path / "smoke" / "queue" / "queue.sqlite").touch()
    assert homes(tmp_path) == [tmp_path / "smoke", tmp_path / "tiny"] and homes(tmp_path / "nosuch") == []
