"""How much of what was asked for a picture gets right, as one number: what reinforcement learning and the enhancer are paid for. Torch-free."""

from collections.abc import Mapping

KEPT_SCALE = 40.0  # mean absolute change (0..255) of the pixels to keep at which nothing is left of that half


def credit(found: Mapping[str, bool | float]) -> float:
    """In [0, 1], of what `checker.check` or `checker.check_edit` has found: half for the share of right attributes, half for all of them right.

    An edit gets half for being done and half for leaving the rest alone.
    """
    if "kept_mae" in found:
        return 0.5 * bool(found["done"]) + 0.5 * max(0.0, 1 - float(found["kept_mae"]) / KEPT_SCALE)
    attributes = [bool(right) for name, right in found.items() if name != "all"]
    return 0.5 * sum(attributes) / len(attributes) + 0.5 * bool(found["all"])
