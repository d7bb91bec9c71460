"""The rules of attribution on made-up evidence, and that the error they state is kept."""

import numpy as np
import pytest

from qi2.flywheel.attribution import statistics as st
from qi2.flywheel.attribution.cases import Case, Tally, counted, in_turn
from qi2.flywheel.attribution.decide import NEW, decide, grouped
from qi2.flywheel.attribution.measure import measure
from qi2.flywheel.config import DecideConfig
from tests.flywheel.evidence import group, near

RULES = DecideConfig()


def tracks(evidence: list, **more: object) -> set[str]:
    return {decision.track for decision in decide(evidence, RULES, **more)}  # type: ignore[arg-type]


def test_what_succeeds_in_other_words_goes_to_the_prompt_track() -> None:
    evidence = group(12, "count", own=0.05, low=0.05, high=0.05, steps=0.05, reworded=0.85)
    (decision, *_) = decide(evidence, RULES)
    assert decision.track == "prompt"
    assert "said in other words" in decision.reason
    assert decision.evidence["own"]["wordings"] == {"another wording": [evidence[0].tallies["reworded"].right, 8]}


def test_what_the_enhancer_repairs_goes_to_the_prompt_track() -> None:
    assert tracks(group(12, "count", own=0.05, reworded=0.05, enhanced=0.9)) == {"prompt"}


def test_what_succeeds_sometimes_goes_to_rl() -> None:
    assert tracks(group(12, "count", own=0.25, low=0.25, high=0.3, steps=0.25, reworded=0.25)) == {"rl"}


def test_what_rises_under_guidance_goes_to_rl_and_says_so() -> None:
    (decision, *_) = decide(group(14, "count", own=0.02, low=0.02, high=0.7, steps=0.02, reworded=0.02), RULES)
    assert decision.track == "rl"
    assert "under more guidance" in decision.reason


def test_what_the_model_before_alignment_could_goes_to_rl() -> None:
    (decision, *_) = decide(group(14, "count", own=0.0, low=0.0, high=0.0, steps=0.0, before=0.8, reworded=0.0), RULES)
    assert decision.track == "rl"
    assert "before alignment" in decision.reason


def test_what_never_succeeds_and_has_no_neighbours_goes_to_pretraining() -> None:
    evidence = group(12, "count", own=0.01, low=0.01, high=0.01, steps=0.01, reworded=0.01)
    assert tracks(near(evidence, 0.7, 0.95)) == {"pretraining"}


def test_what_never_succeeds_beside_plenty_of_data_is_left_undecided() -> None:
    evidence = near(group(12, "count", own=0.01, low=0.01, high=0.01, steps=0.01, reworded=0.01), 0.95, 0.95)
    (decision, *_) = decide(evidence, RULES)
    assert decision.track == "none"
    assert "no test decides" in decision.reason


def test_bad_luck_of_one_noise_changes_nothing() -> None:
    assert tracks(group(20, "count", own=0.7, low=0.7, high=0.7, steps=0.7, reworded=0.7)) == {"none"}


def test_too_few_failures_change_nothing() -> None:
    assert tracks(group(3, "count", own=0.0, reworded=1.0)) == {"none"}


def test_a_weakness_no_larger_than_tolerated_changes_nothing() -> None:
    evidence = group(6, "count", own=0.1, reworded=0.1)
    assert tracks(evidence, tested={("t2i", "count"): 60}) == {"none"}
    assert tracks(evidence, tested={("t2i", "count"): 10}) != {"none"}


def test_failures_beyond_the_ones_that_are_tested_count_in_their_kinds_share() -> None:
    """A model that fails at all of 25 kinds, of whose 1,500 failures 240 are tested: 10 or 9 of each kind."""
    kinds = [f"kind{i}" for i in range(25)]
    failing = [Case(f"{kind}-{i}", "t2i", kind, f"a thing {i}") for kind in kinds for i in range(60)]
    evidence = [item for kind in kinds for item in group(10 - (kind in kinds[15:]), kind, "a thing", own=0.25, reworded=0.25)]
    asked = {("t2i", kind): 60 for kind in kinds}
    assert tracks(evidence, tested=asked) == {"none"} and tracks(evidence, tested=asked, failing=failing) == {"rl"}
    most = [case for case in failing if case.kind == "kind0" or case.id.endswith(("-1", "-2", "-3"))]  # one kind fails, the others hardly do
    decided = decide(evidence, RULES, None, asked, most)
    assert {d.track for d in decided[:10]} == {"rl"} and {d.track for d in decided[10:]} == {"none"}
    assert decided[0].evidence["group"]["failures"] == 60 and "3 failures among 60 prompts of its kind" in decided[-1].reason


def test_of_a_group_that_a_word_parts_its_own_failures_count() -> None:
    four, two = "four red stars", "two red stars"
    evidence = [*group(10, "count", four, seed=1, own=0.0, reworded=0.0), *group(10, "count", two, seed=2, own=0.3, reworded=0.3)]
    failing = [Case(str(i), "t2i", "count", two if i < 12 else four) for i in range(72)]
    decided = decide(evidence, RULES, None, {("t2i", "count"): 100}, [*failing, Case("e", "ti2i", "count", four), Case("o", "t2i", "one", four)])
    assert (decided[0].track, decided[0].evidence["group"]["failures"]) == ("pretraining", 60)
    assert decided[10].track == "none" and "12 failures among 100 prompts" in decided[10].reason


def test_where_too_few_of_many_failures_were_tested_the_reason_says_so() -> None:
    (decision, *_) = decide(group(3, "count", own=0.0), RULES, None, None, [Case(str(i), "t2i", "count", "a thing") for i in range(60)])
    assert decision.track == "none" and "3 of its 60 failures were tested, fewer than 5; raise flywheel.probes.most" in decision.reason


def test_a_word_whose_prompts_fare_differently_parts_a_kind() -> None:
    never = group(10, "count", "four red stars", seed=1, own=0.0, reworded=0.0)
    luck = group(10, "count", "two red stars", seed=2, own=0.8, reworded=0.8)
    names = {g.name for g in grouped([*never, *luck], RULES)}
    assert len(names) == 2
    assert {decision.track for decision in decide([*never, *luck], RULES)[:10]} == {"pretraining"}
    assert {decision.track for decision in decide([*never, *luck], RULES)[10:]} == {"none"}


def test_new_words_are_pooled() -> None:
    said = [group(2, "one", f"a {word} at the top", seed=i, own=0.0, reworded=0.9) for i, word in enumerate(("orb", "tile", "delta", "spark", "hoop"))]
    plain = group(10, "one", "a circle at the top", seed=9, own=0.8, reworded=0.8)
    evidence = [item for part in said for item in part] + plain
    (first, *_) = grouped(evidence, RULES, known=counted(["a circle at the top"]))
    assert NEW in first.words
    assert len(first.members) == 10


def test_with_nothing_wrong_the_stated_error_is_kept() -> None:
    """Failures of a healthy model: prompts succeed as often as not or more. At most one round in twenty may act; 60 rounds are tried."""
    acted = 0
    for seed in range(60):
        rates = np.random.default_rng(seed).beta(4, 3, 24)  # prompts differ, mean .57
        evidence = [group(1, kind, f"{word} things", seed=1000 * seed + i, own=float(rate), reworded=float(rate))[0]
                    for i, (rate, kind, word) in enumerate(zip(rates, ["count", "relation"] * 12, ["red", "blue", "green"] * 8, strict=True))]  # fmt: skip
        acted += any(decision.track != "none" for decision in decide(evidence, RULES))
    assert acted <= 6


def test_alike_pictures_of_one_prompt_count_for_less() -> None:
    alike = [Tally(8, 8)] * 5 + [Tally(0, 8)] * 5
    mixed = [Tally(4, 8)] * 10
    assert st.effective(alike)[1] == pytest.approx(10, abs=1)
    assert st.effective(mixed)[1] == 80
    wide, narrow = (high - low for low, high in (st.interval(alike), st.interval(mixed)))
    assert wide > 2 * narrow


def test_exact_binomial_is_what_scipy_says() -> None:
    from scipy.stats import binomtest

    assert st.below([Tally(1, 12)], 0.5) == pytest.approx(binomtest(1, 12, 0.5, alternative="less").pvalue)
    assert st.above([Tally(5, 12)], 0.1) == pytest.approx(binomtest(5, 12, 0.1, alternative="greater").pvalue)
    assert st.below([Tally(0, 0)], 0.5) == 1.0


def test_sign_flips_are_exact_for_few_prompts() -> None:
    assert st.sign_flips(np.array([0.5, 0.5, 0.5, 0.5, 0.5])) == 1 / 32


def test_precision_and_recall_count_what_was_planted() -> None:
    decisions = decide(group(10, "count", own=0.25, reworded=0.25) + group(10, "one", seed=3, own=0.8, reworded=0.8), RULES)
    planted = {f"count-0-{i}": "rl" for i in range(10)}
    scores = measure(decisions, planted)
    assert (scores["rl"].precision, scores["rl"].recall) == (1.0, 1.0)
    assert scores["prompt"].precision is None
    assert scores["none"].to_json()["recall"]["low"] > 0.6


def test_what_all_failures_of_a_kind_share_needs_no_others_to_compare_with() -> None:
    missing = group(10, "text", "the word KA at the top", own=0.0, low=0.0, high=0.0, steps=0.0, reworded=0.0)
    (decision, *_) = decide(missing, RULES, known=counted(["the word SA at the top"] * 9))
    assert decision.track == "pretraining"
    assert decision.evidence["group"]["training_prompts"]["letter K"] == 0


def test_every_kind_gets_its_turn_where_there_are_too_many() -> None:
    assert in_turn(["a1", "a2", "a3", "b1", "c1"], lambda text: text[0], 3) == ["a1", "b1", "c1"]


def test_rendered_words_are_letters() -> None:
    said = {"word", "at", "top", "red", "star", "letter Z", "letter S"}
    assert Case("x", "t2i", "text", "the word ZS at the top, a red star").features == said


def test_a_letter_that_no_training_prompt_has_is_missing_knowledge() -> None:
    missing = group(10, "text", "the word KA at the top", seed=1, own=0.0, low=0.0, high=0.0, steps=0.0, reworded=0.0)
    luck = group(10, "text", "the word SA at the top", seed=2, own=0.8, reworded=0.8)
    found = decide([*missing, *luck], RULES, known=counted(["the word SA at the top"] * 9))
    assert {decision.track for decision in found[:10]} == {"pretraining"}
    assert "'letter K' in 0 training prompts" in found[0].reason
    assert {decision.track for decision in found[10:]} == {"none"}
