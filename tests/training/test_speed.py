"""Where a step's time goes."""

import time

from qi2.training.speed import Speed


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
