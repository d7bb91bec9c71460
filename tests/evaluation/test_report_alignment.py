"""The report on what a judge saw while RL went on."""

import json
from pathlib import Path

from PIL import Image

from qi2.evaluation.run_folder import RunFolder
from qi2.evaluation.sections.alignment import watched


def test_reward_stands_beside_truth_with_the_reason_of_an_early_end_and_the_same_prompts_over_steps(tmp_path: Path) -> None:
    folder = tmp_path / "rlhf"
    (folder / "images").mkdir(parents=True)
    rows = [{"step": s, "judge/truth": 0.8 - 0.01 * s, "judge/reward": 0.1 * s, "judge/truth/count": 0.5} for s in (0, 5, 10)]
    (folder / "judgements.json").write_text(json.dumps({"ended": "the judge exact fell <far>", "judgements": rows}))
    (folder / "metrics.json").write_text(json.dumps({"rlhf/best_step": 5.0}))
    for step in (10, 5):
        Image.new("RGB", (64, 64)).save(folder / "images" / f"samples_fixed@{step}.png")
    page = watched(RunFolder(tmp_path))
    assert "the judge exact fell &lt;far&gt;" in page
    assert "the policy of step 5" in page
    assert page.index("step 5: before") < page.index("step 10: before")
    assert page.count("<svg") == 3
    assert page.index("reward") < page.index("Single rewards")


def test_a_run_without_a_judge_says_so(tmp_path: Path) -> None:
    assert "Not run" in watched(RunFolder(tmp_path))
