"""Where a step's time goes."""

import threading
import time
from collections.abc import Iterator

import pytest

from qi2.training.speed import Feed, Speed


def test_time_of_a_part_inside_another_counts_once() -> None:
    speed, start = Speed(), time.monotonic()
    with speed.part("outer"):
        time.sleep(0.02)
        with speed.part("inner"):
            time.sleep(0.05)
    whole = time.monotonic() - start
    speed.steps = 2
    figures = speed.figures()
    inner, outer = figures["speed/inner_s"] * 2, figures["speed/outer_s"] * 2
    assert inner >= 0.05 and outer >= 0.02
    assert inner + outer <= whole
    assert "speed/inner_s" not in speed.figures()


class Loader:
    """Three batches; says which one it is asked for."""

    def __init__(self) -> None:
        self.asked = [threading.Event() for _ in range(4)]

    def __iter__(self) -> Iterator[int]:
        for i, asked in enumerate(self.asked[:-1]):
            asked.set()
            yield i


@pytest.mark.parametrize("eager", [False, True])
def test_the_next_batch_is_begun_when_it_is_said(eager: bool) -> None:
    loader = Loader()
    feed, seen = Feed(loader, Speed(), eager), []
    for batch in feed:
        seen.append(batch)
        early = eager and batch < 2
        assert loader.asked[batch + 1].wait(10 if early else 0.05) == early
        feed.ahead()
        feed.ahead()  # of a second backward pass
        assert batch == 2 or loader.asked[batch + 1].wait(10)
        assert not loader.asked[min(batch + 2, 3)].is_set()
    feed.ahead()
    assert seen == [0, 1, 2]
