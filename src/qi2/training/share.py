"""Which samples of a step's batch a process computes, so that any number of processes and micro-batches sees the same batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from qi2.core.errors import QI2Error

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """Process ``rank`` of ``ranks``, in micro-batch ``micro`` of ``micros``."""

    rank: int = 0
    ranks: int = 1
    micro: int = 0
    micros: int = 1

    @property
    def parts(self) -> int:
        """Into how many parts a batch is cut."""
        return self.ranks * self.micros

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of a whole batch. Raises QI2Error where the parts would not be equal."""
        if len(items) % self.parts:
            raise QI2Error(
                f"a batch of {len(items)} does not divide into {self.ranks} processes with {self.micros} micro-batches each; "
                f"choose a batch size that is a multiple of {self.parts}, or other engine.devices, engine.nodes or engine.accumulate"
            )
        size = len(items) // self.parts
        start = (self.micro * self.ranks + self.rank) * size
        return items[start : start + size]

    def split(self) -> list["Share"]:
        """One per micro-batch, in order."""
        return [replace(self, micro=micro) for micro in range(self.micros)]


WHOLE = Share()
