"""What a run observes between two points of its curves: weighted sums, kept where they arise, so that nothing waits for a GPU."""

from collections.abc import Mapping

import torch
from torch import Tensor

Number = Tensor | float


class Tally:
    """Weighted means by name. Its state is part of a checkpoint: a curve of a resumed run has the same points."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}
        self.latest: dict[str, Tensor] = {}

    def add(self, name: str, total: Number, count: Number = 1.0) -> None:
        """``total`` is the sum of ``count`` observations; one that is not finite does not count."""
        total, count = torch.as_tensor(total).detach().double(), torch.as_tensor(count).detach().double()
        finite = total.isfinite()
        total, count = torch.where(finite, total, 0.0), count * finite
        self.totals[name] = self.totals[name] + total if name in self.totals else total
        self.counts[name] = self.counts[name] + count if name in self.counts else count
        self.latest[name] = total / count

    def means(self) -> dict[str, float]:
        """The means over all processes since the last `clear`; a name that nobody observed is left out."""
        sums = {name: (float(total), float(self.counts[name])) for name, total in self.totals.items()}
        merged: dict[str, list[float]] = {}
        for part in _of_all_processes(sums):
            for name, (total, count) in part.items():
                pair = merged.setdefault(name, [0.0, 0.0])
                pair[0], pair[1] = pair[0] + total, pair[1] + count
        return {name: total / count for name, (total, count) in merged.items() if count}

    def clear(self) -> None:
        """Begin anew."""
        self.totals, self.counts = {}, {}

    def state_dict(self) -> dict[str, list[float]]:
        """{name: [total, count]}."""
        return {name: [float(total), float(self.counts[name])] for name, total in self.totals.items()}

    def load_state_dict(self, state: Mapping[str, list[float]]) -> None:
        """Go on from a saved state."""
        self.totals = {name: torch.tensor(total, dtype=torch.float64) for name, (total, _) in state.items()}
        self.counts = {name: torch.tensor(count, dtype=torch.float64) for name, (_, count) in state.items()}


def _of_all_processes(sums: dict[str, tuple[float, float]]) -> list[dict[str, tuple[float, float]]]:
    if not torch.distributed.is_initialized():
        return [sums]
    parts: list[dict[str, tuple[float, float]]] = [{}] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, sums)
    return parts
