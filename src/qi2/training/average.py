"""The exponential moving average of the weights (Polyak and Juditsky, 1992), with which a run ends where its method asks for one.

It is part of the module, so that it is saved, sharded and loaded like the weights themselves.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average(nn.Module):
    """The average of a network's trainable parameters. Those that do not train, as under an adapter, are not kept twice."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.names = [name for name, p in network.named_parameters() if p.requires_grad]
        self.values = nn.ParameterList([nn.Parameter(p.detach().clone(), requires_grad=False) for p in self._of(network)])

    @torch.no_grad()
    def update(self, network: nn.Module, first: bool) -> None:
        """Take one more step's weights in; the average starts at those after the first."""
        torch._foreach_lerp_(list(self.values), self._of(network), 1.0 if first else 1 - self.decay)

    @torch.no_grad()
    def give(self, network: nn.Module) -> None:
        """Put the average into the network."""
        for mean, now in zip(self.values, self._of(network), strict=True):
            now.copy_(mean)

    @contextmanager
    def instead(self, network: nn.Module) -> Iterator[None]:
        """The average in the network's place for a while."""
        kept = [p.detach().clone() for p in self._of(network)]
        self.give(network)
        yield
        with torch.no_grad():
            for now, before in zip(self._of(network), kept, strict=True):
                now.copy_(before)

    def _of(self, network: nn.Module) -> list[Tensor]:
        found = dict(network.named_parameters())
        return [found[name] for name in self.names]
