"""The report: self-contained, quick, free of torch, and silent about nothing that did not run."""

import json
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

from qi2.evaluation.bootstrap import Figure
from qi2.evaluation.charts import line_chart, short, ticks, whisker
from qi2.evaluation.report import build_report
from qi2.evaluation.run_folder import RunFolder
from qi2.evaluation.sections.data import curation
from tests.evaluation.conftest import FakeRecipe, make_run

VOID = {"meta", "img", "br", "line", "circle", "path", "rect"}


class Balance(HTMLParser):
    """Fails on a closing tag that closes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        return None


def page(run: Path, out: Path, recipe: FakeRecipe) -> str:
    build_report(recipe, run, out)
    return (out / "index.html").read_text()


def test_report_is_one_page_without_scripts_or_outside_addresses(full_run: Path, tmp_path: Path, recipe: FakeRecipe) -> None:
    text = page(full_run, tmp_path / "report", recipe)
    assert "<script" not in text
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    parser = Balance()
    parser.feed(text)
    assert parser.open == []


def test_report_shows_every_section_of_a_whole_run(full_run: Path, tmp_path: Path, recipe: FakeRecipe) -> None:
    text = page(full_run, tmp_path / "report", recipe)
    assert "Not run." not in text
    for word in (
        "Gain of RL over SFT",
        "4-step student",
        "unchanged source",
        "near duplicate",
        "linear start",
        "aesthetic",
        "tiny Qwen3-VL",
        "rewritten, SFT + RL",
        "search words",
    ):
        assert word in text, word


def test_suites_are_shown_with_intervals_text_by_script_and_what_was_failed(full_run: Path, tmp_path: Path, recipe: FakeRecipe) -> None:
    text = page(full_run, tmp_path / "report", recipe)
    suites = text[text.index('<h2 id="suites">') : text.index('<h2 id="editing">')]
    assert "text-protocol/world-checker" in suites and "Two-letter words" in suites
    assert "<td>Latin</td><td>1 to 4</td><td>world-text</td>" in suites
    assert "0.75 <small>[" in suites
    assert "the word ZI" in suites and "the word TV" not in suites  # what was right is no example of a failure
    assert suites.count("<img ") == 3


def test_report_says_not_run_for_missing_stages_and_invents_no_figure(tmp_path: Path, recipe: FakeRecipe) -> None:
    run = make_run(tmp_path / "run", ("curated", "vae"))
    text = page(run, tmp_path / "report", recipe)
    for stage in ("evaluate", "rewards", "rlhf", "distill", "enhancer"):
        assert f"<code>{stage}</code>, which has no result" in text, stage
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert set(summary["figures"]) == {"time/total_s", "time/overhead_share", "memory/peak_gib"}


def test_report_of_an_empty_folder_still_stands(tmp_path: Path, recipe: FakeRecipe) -> None:
    text = page(tmp_path / "nothing", tmp_path / "report", recipe)
    assert "Not measured." in text


def test_summary_has_value_interval_and_count_for_every_figure(full_run: Path, tmp_path: Path, recipe: FakeRecipe) -> None:
    summary = build_report(recipe, full_run, tmp_path / "report")
    assert set(summary) == {"figures", "scale", "seed", "revision"}
    assert json.loads((tmp_path / "report" / "summary.json").read_text()) == summary
    for name, figure in summary["figures"].items():
        assert set(figure) == {"value", "low", "high", "n"}, name
        assert figure["low"] <= figure["value"] <= figure["high"], name
    for name in ("t2i/accuracy/sft", "edit/done/rlhf", "reward/alignment/accuracy", "rl/gain", "distill/retention", "time/overhead_share"):
        assert name in summary["figures"], name


def test_report_is_quick_and_needs_no_torch(full_run: Path, tmp_path: Path, recipe: FakeRecipe) -> None:
    started = time.process_time()  # of this process, so that a busy machine does not fail it
    build_report(recipe, full_run, tmp_path / "report")
    assert time.process_time() - started < 2
    code = "import sys, qi2.evaluation.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_prompt_text_cannot_break_the_page(tmp_path: Path, recipe: FakeRecipe) -> None:
    run = make_run(tmp_path / "run")
    path = run / "evaluate" / "results.json"
    results = json.loads(path.read_text())
    results["t2i"]["items"][0]["prompt"] = "<script>alert('x')</script>"
    path.write_text(json.dumps(results))
    assert "<script" not in page(run, tmp_path / "report", recipe)


def test_charts_survive_constant_empty_and_non_finite_curves() -> None:
    assert line_chart("empty", {"a": []}) == ""
    assert line_chart("nan", {"a": [(0, float("nan"))]}) == ""
    assert "<svg" in line_chart("flat", {"a": [(0, 1.0), (1, 1.0), (2, float("inf"))]})
    assert whisker(None) == ""
    assert "[0.200, 0.600]" in whisker(Figure(0.5, 0.2, 0.6, 9))


def test_axis_numbers_are_round_and_short() -> None:
    assert ticks(0, 1, 4) == [0, 0.5, 1.0]
    assert ticks(-0.3, 0.3, 4)[0] == -0.2
    assert [short(x) for x in (12000, 340.2, 1.25, 0.034, 0.00002)] == ["12k", "340", "1.25", "0.034", "2e-05"]


def test_drift_is_told_where_a_version_before_was_seen(tmp_path: Path) -> None:
    funnel = {"stage1": {"in": 10, "kept": 8, "rejected": {"clip": 2}}}
    (tmp_path / "curated").mkdir()
    (tmp_path / "curated" / "funnel.json").write_text(json.dumps(funnel))
    assert "Drift" not in curation(RunFolder(tmp_path))
    (tmp_path / ".scores").mkdir()
    known = {"now": {"kept": {"stage1": 8}}, "before": {"kept": {"stage1": 5}}, "index": {"clip": 0.31, "entropy": 0.01}}
    (tmp_path / ".scores" / "drift.json").write_text(json.dumps(known))
    page = curation(RunFolder(tmp_path))
    assert "Drift against the version before" in page
    assert "<b>changed</b>" in page and "0.310" in page and ">5<" in page
