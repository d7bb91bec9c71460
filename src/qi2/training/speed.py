"""How fast training runs: samples per second, share of the time spent waiting for data and saving, use of the arithmetic, memory."""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

REPEATS = 3


class Speed:
    """Seconds by what they went to, and samples, since the last `figures`. Nothing here feeds back into training."""

    def __init__(self) -> None:
        self.flops = self.rate = 0.0  # of a unit of work; per second of this process's device
        self.waited = self.saved = 0.0
        self.parts: dict[str, float] = {}
        self.steps, self.samples, self.work = 0, 0, 0.0
        self.since = time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time spent waiting for a batch."""
        start = time.monotonic()
        yield
        self.waited += time.monotonic() - start

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Time spent on a checkpoint."""
        start = time.monotonic()
        yield
        self.saved += time.monotonic() - start

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time that goes to one part of a step, without parts inside it; a GPU is waited for, so that it is the part's own."""
        start, before = _now(), sum(self.parts.values())
        yield
        inside = sum(self.parts.values()) - before
        self.parts[name] = self.parts.get(name, 0.0) + _now() - start - inside

    def figures(self) -> dict[str, float]:
        """Means since the last call."""
        seconds, steps = max(time.monotonic() - self.since, 1e-9), max(self.steps, 1)
        values = {"speed/step_s": seconds / steps, "speed/data_wait": self.waited / seconds, "speed/checkpoint_share": self.saved / seconds}
        values["speed/memory_gib"] = memory_gib()
        values |= {f"speed/{name}_s": spent / steps for name, spent in self.parts.items()}
        if self.samples:
            values["speed/samples_per_s"] = self.samples / seconds
        if self.flops and self.rate:
            values["speed/flop_utilisation"] = self.flops * self.work / seconds / self.rate
        self.waited = self.saved = 0.0
        self.parts = {}
        self.steps, self.samples, self.work, self.since = 0, 0, 0.0, time.monotonic()
        return values


class Feed:
    """A loader whose next batch is made beside the step on the current one, and whose delays are counted.

    It is begun by `ahead`: Python runs one thread at a time, so that a batch is best made while the main thread is in a long call.
    """

    def __init__(self, loader: Any, speed: Speed, eager: bool) -> None:
        self.loader, self.speed, self.eager = loader, speed, eager
        self.begin: Callable[[], None] = lambda: None

    def ahead(self) -> None:
        """Begin the next batch, where that has not happened."""
        self.begin()

    def __iter__(self) -> Iterator[Any]:
        batches, made = iter(self.loader), list[Future[Any]]()
        with ThreadPoolExecutor(1, "feed") as thread:
            self.begin = lambda: None if made else made.append(thread.submit(next, batches, None))
            while True:
                self.begin()
                with self.speed.waiting():
                    batch = made.pop().result()
                if batch is None:
                    self.begin = lambda: None
                    return
                if self.eager:
                    self.begin()
                yield batch


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic()


def memory_gib() -> float:
    """The most that this process has held: of the GPU's memory, else of the machine's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


@torch.no_grad()
def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product on this device, now: what a step's own rate is compared with."""
    side = 8192 if device.type == "cuda" else 768
    a = torch.randn(side, side, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    best = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best
