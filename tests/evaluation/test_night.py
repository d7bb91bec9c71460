"""How a night is put together: subsets, budget, comparisons, new failures."""

from qi2.evaluation.night import NightlyConfig, Sitting, affordable, compare, cost, new_failures, shares, sitting, steady, subset_seed, verdict


def _sat(right: list[int], version: str = "1") -> Sitting:
    names = [f"{'one' if i % 2 else 'two'}-{i}" for i in range(len(right))]
    kinds = {f"t2i/{name}": name[:3] for name in names}
    return Sitting(version, {"t2i": {name: bool(value) for name, value in zip(names, right, strict=True)}}, kinds)


def test_subsets_differ_from_each_other_and_from_the_published_suite() -> None:
    seeds = {subset_seed(2026, subset) for subset in range(7)}
    assert len(seeds | {2026}) == 8


def test_as_many_prompts_as_the_slowest_night_would_have_done_in_time() -> None:
    config = NightlyConfig(budget_s=100, least=5, most=200)
    assert affordable(config, [], 2) == config.prompts_per_kind
    assert affordable(config, [(20, 20.0), (20, 40.0)], 2) == 20  # 2 s per prompt of each kind, 80 s, two models
    assert affordable(config, [(20, 4000.0)], 2) == 5
    assert affordable(config, [(20, 0.2)], 1) == 200


def test_a_subset_keeps_its_prompts_while_they_fit_so_that_their_pictures_are_there_already() -> None:
    assert [steady(20, affordable) for affordable in (20, 39)] == [20, 20]
    assert [steady(20, affordable) for affordable in (12, 40)] == [12, 40]
    assert steady(None, 30) == 30


def test_pictures_that_were_there_already_count_as_if_they_were_drawn_in_the_night() -> None:
    assert cost(3.0, {"models": {"distill": {"seconds": 20.0, "edit_seconds": 5.0}}}) == 25.0
    assert cost(30.0, {"models": {"distill": {"seconds": 20.0}}}) == 30.0


def test_verdicts_of_an_evaluation_become_shares_by_category() -> None:
    items = [{"id": f"one-{i}", "kind": "one", "prompt": ""} for i in range(3)]
    rows = [{"all": True}, {"all": False}, {"all": True}]
    sat = sitting({"t2i": {"items": items, "results": {"distill": rows}}, "edit": {"items": [], "results": {}}}, "distill", "4")
    assert shares(sat) == {"t2i": (2, 3), "t2i/one": (2, 3)}


def test_a_model_that_fell_is_found_against_itself_its_history_and_the_champion() -> None:
    good, bad = _sat([1] * 60), _sat([0, 1, 1] * 20)
    history = {"challenger": {"t2i": (560, 600)}}
    changes = compare({"champion": good, "challenger": bad}, {"champion": good, "challenger": _sat([1] * 60, "0")}, history, 10)
    fallen = {(change.name, change.against) for change in changes if change.worse}
    expected = {("challenger t2i", "same prompts before, version 0"), ("challenger t2i", "10 nights"), ("challenger t2i", "champion tonight")}
    assert fallen >= expected
    assert not any(name.startswith("champion") for name, _ in fallen)
    assert verdict(changes, True).startswith(f"{len(fallen)} worse and 0 better")
    assert new_failures(good, bad) == [("t2i", f"{'one' if i % 2 else 'two'}-{i}") for i in range(0, 60, 3)]


def test_a_quiet_night_says_so() -> None:
    sat = _sat([1, 0] * 10)
    assert verdict(compare({"champion": sat}, {"champion": sat}, {}, 0), True) == "Nothing changed beyond chance: 3 comparisons, 0 of them moved."
    assert "First evaluation" in verdict([], False)
