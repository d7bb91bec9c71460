"""The data plan: exact shares, no repeat before all were seen, nothing dropped, and the same steps whoever asks and in whatever order."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from qi2.core.errors import QI2Error
from qi2.training.data_plan import DataPlan, PlanRows, PlanSettings
from qi2.training.interleave import Interleave
from qi2.training.share import Share

KINDS = {("t2i", "one"): 37, ("t2i", "two"): 91, ("t2i", "rare"): 3, ("ti2i", "add"): 29, ("ti2i", "move"): 14}


def rows(sizes: tuple[int, ...] = (64,), counts: dict[tuple[str, str], int] = KINDS) -> PlanRows:
    names = [name for name, n in counts.items() for _ in range(n)]
    order = np.random.default_rng(0).permutation(len(names))
    task, kind = (np.array([names[i][k] for i in order]) for k in (0, 1))
    return PlanRows(100 + np.arange(len(names)), task, kind, {size: np.ones(len(names), dtype=bool) for size in sizes}, "hash")


def settings(**changes: Any) -> PlanSettings:
    defaults: dict[str, Any] = {"sizes": [64], "batch_sizes": [16], "ti2i_share": 0.3, "kind_weights": {"two": 2.0, "rare": 0.01}}
    return PlanSettings(**(defaults | changes))


def plan(**changes: Any) -> DataPlan:
    chosen = settings(**changes)
    return DataPlan(rows(tuple(chosen.sizes)), chosen, 7, "test")


def groups(own: PlanRows) -> dict[int, tuple[str, str]]:
    return {int(row): (str(task), str(kind)) for row, task, kind in zip(own.index, own.task, own.kind, strict=True)}


def same(a: Any, b: Any) -> bool:
    return bool(a.size == b.size and np.array_equal(a.rows, b.rows) and np.array_equal(a.samples, b.samples))


def test_a_step_is_the_same_whatever_was_asked_before() -> None:
    changes = {"sizes": [32, 64], "batch_sizes": [8, 4]}
    in_order = [plan(**changes).step(step) for step in range(60)]
    jumping = plan(**changes)
    for step in np.random.default_rng(1).permutation(60):
        assert same(jumping.step(int(step)), in_order[step])
    other = DataPlan(rows((32, 64)), settings(**changes), 8, "test")
    assert not all(same(other.step(step), in_order[step]) for step in range(5))


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_ranks_together_see_each_sample_of_the_step_once(world: int) -> None:
    whole = plan().step(5)
    parts = [whole.part(Share(rank, world)) for rank in range(world)]
    assert {len(part.rows) for part in parts} == {16 // world}
    pairs = [pair for part in parts for pair in zip(part.samples.tolist(), part.rows.tolist(), strict=True)]
    assert sorted(pairs) == list(zip(whole.samples.tolist(), whole.rows.tolist(), strict=True))


def test_a_batch_that_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(QI2Error, match="does not divide into 3 processes"):
        plan().step(0).part(Share(0, 3))


def test_no_row_comes_again_before_all_of_its_group_came() -> None:
    own, name = plan(), groups(rows())
    seen: Counter[int] = Counter()
    for step in range(400):
        for row in own.step(step).rows.tolist():
            seen[row] += 1
            mates = [seen[mate] for mate, group in name.items() if group == name[row]]
            assert max(mates) - min(mates) <= 1


def test_every_epoch_has_its_quotas_and_the_rarest_group_comes_in_the_long_run() -> None:
    own, name, stream = plan(), groups(rows()), plan().streams[0]
    assert stream.epoch % 16 == 0 and stream.epoch >= sum(KINDS.values())
    wanted = dict(zip(stream.labels, stream.shares * stream.epoch, strict=True))
    assert sum(n for (task, _), n in wanted.items() if task == "ti2i") == pytest.approx(0.3 * stream.epoch)
    per_epoch, total = stream.epoch // 16, Counter()
    for epoch in range(stream.order.rounds):
        found = Counter(name[row] for step in range(per_epoch) for row in own.step(epoch * per_epoch + step).rows.tolist())
        assert all(np.floor(n) <= found[group] <= np.ceil(n) for group, n in wanted.items())
        total += found
    for group, n in wanted.items():
        assert abs(total[group] - n * stream.order.rounds) <= 1
    assert total["t2i", "rare"] > 0


@pytest.mark.parametrize(("shares", "length"), [([0.5, 0.3, 0.2], 10), ([0.7, 0.001, 0.299], 7), ([1.0, 0.0, 2.0], 1), ([1 / 3] * 3, 1000)])
def test_counts_are_closed_form(shares: list[float], length: int) -> None:
    own = Interleave(np.array(shares), length, 3, "x")
    seen, target = np.zeros(3, np.int64), np.array(shares) / sum(shares)
    for position in range(3 * own.rounds * length if length < 100 else 5000):
        labels, counts = own.cycle(position // length)
        label = labels[position % length]
        assert counts[position % length] == seen[label]
        seen[label] += 1
        if (position + 1) % length == 0:
            assert np.array_equal(own.before((position + 1) // length), seen)
            assert (np.abs(seen - target * (position + 1)) < 2 + np.log2(own.rounds)).all()
    assert np.array_equal(own.count(4321 % (position + 1)), np.bincount(_labels(own, 4321 % (position + 1)), minlength=3))


def _labels(own: Interleave, n: int) -> np.ndarray:
    return np.concatenate([own.cycle(k)[0] for k in range(n // own.length + 1)])[:n]


def test_sizes_have_their_shares_of_the_steps_and_batches_of_their_own() -> None:
    own = plan(sizes=[32, 64, 128], batch_sizes=[8, 4, 2], size_weights=[0.5, 0.3, 0.2])
    steps = [own.step(step) for step in range(50)]
    for cycle in range(5):
        assert Counter(step.size for step in steps[10 * cycle : 10 * cycle + 10]) == {32: 5, 64: 3, 128: 2}
    assert {step.size: len(step.rows) for step in steps} == {32: 8, 64: 4, 128: 2}
    equal = plan(sizes=[32, 64], batch_sizes=[8, 4])
    assert all({equal.step(2 * k).size, equal.step(2 * k + 1).size} == {32, 64} for k in range(20))


def test_batches_of_one_task_share_the_steps_and_repeat_nothing_either() -> None:
    own, name = plan(mixed=False), groups(rows())
    tasks = [{name[row][0] for row in own.step(step).rows.tolist()} for step in range(100)]
    assert all(len(task) == 1 for task in tasks)
    assert sum(task == {"ti2i"} for task in tasks) == 30
    edits = [row for step in range(100) for row in own.step(step).rows.tolist() if name[row] == ("ti2i", "add")]
    assert all(len({*edits[29 * k : 29 * k + 29]}) == 29 for k in range(len(edits) // 29))


def test_sample_numbers_are_unique_and_without_gaps_over_stages() -> None:
    changes: dict[str, Any] = {"sizes": [32, 64], "batch_sizes": [8, 4]}
    first = plan(**changes)
    second = DataPlan(rows((32, 64)), settings(**changes), 7, "test/2", first.drawn(31))
    numbers = np.concatenate([*(first.step(step).samples for step in range(31)), *(second.step(step).samples for step in range(17))])
    assert np.array_equal(numbers, np.arange(len(numbers)))


def test_no_tail_is_dropped() -> None:
    images = rows(counts={("t2i", "one"): 53})
    own = DataPlan(images, settings(), 0, "x")
    assert own.streams[0].epoch == 64
    assert {row for step in range(4) for row in own.step(step).rows.tolist()} == set(images.index.tolist())


def test_where_a_task_has_no_rows_the_other_takes_its_share() -> None:
    edits = rows(counts={("ti2i", "add"): 9})
    assert DataPlan(edits, settings(ti2i_share=0.1), 0, "x").streams[0].labels == [("ti2i", "add")]
    images = rows(counts={("t2i", "one"): 9})
    assert DataPlan(images, settings(ti2i_share=0.3), 0, "x").streams[0].shares.tolist() == [1.0]


def test_figures_say_what_the_steps_do_and_which_rows_never_come() -> None:
    own = rows((32, 64))
    own.ready[64][:20] = False
    own.ready[32][:5] = False
    chosen = settings(sizes=[32, 64], batch_sizes=[8, 4], kind_weights={"move": 0.0})
    made, name = DataPlan(own, chosen, 7, "x"), groups(own)
    found, figures = Counter(), made.figures(33)
    for step in map(made.step, range(33)):
        found.update((step.size, *name[row]) for row in step.rows.tolist())
    assert {key: figures["/".join(map(str, key)) + "/samples"] for key in found} == found
    assert figures["32/samples"] == sum(n for key, n in found.items() if key[0] == 32)
    assert figures["32/t2i/rare/epochs"] == pytest.approx(found[32, "t2i", "rare"] / sum(own.ready[32] & (own.kind == "rare")))
    assert figures["never_not_encoded"] == 5
    assert figures["never_weight_zero"] == sum(own.ready[32] & (own.kind == "move"))
    drawn = {row for step in range(300) for row in made.step(step).rows.tolist()}
    assert len(own.index) - len(drawn) == figures["never_not_encoded"] + figures["never_weight_zero"]


def test_the_fingerprint_tells_another_data_version_or_setting() -> None:
    base = plan().fingerprint()
    assert base == plan().fingerprint()
    assert base != plan(ti2i_share=0.2).fingerprint()
    changed = rows()
    changed.version = "other"
    assert base != DataPlan(changed, settings(), 7, "test").fingerprint()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_sizes": [4, 4]}, "give one for each size"),
        ({"sizes": [48]}, "encoded at 48 px"),
        ({"kind_weights": dict.fromkeys(("one", "two", "rare", "add", "move"), 0.0)}, "weight 0"),
        ({"kind_weights": {"rare": 1e-12}}, "raise its weight"),
        ({"ti2i_share": 1.5}, "choose 0 to 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(QI2Error, match=message):
        DataPlan(rows(), settings(**changes), 0, "x")
