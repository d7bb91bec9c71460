"""Precision and recall of attribution on planted failures. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from qi2.evaluation.bootstrap import proportion
from qi2.flywheel.attribution.decide import TRACKS, Decision


@dataclass(frozen=True)
class Score:
    """One track: how many failures belong there, were sent there, and both. Shares are None where nothing could be counted."""

    track: str
    planted: int
    sent: int
    right: int

    @property
    def precision(self) -> float | None:
        """Share of what was sent that belongs there."""
        return self.right / self.sent if self.sent else None

    @property
    def recall(self) -> float | None:
        """Share of what belongs there that was sent."""
        return self.right / self.planted if self.planted else None

    def to_json(self) -> dict[str, Any]:
        """Values with their 95 % intervals."""
        values: dict[str, Any] = asdict(self)
        for name, value, n in (("precision", self.precision, self.sent), ("recall", self.recall, self.planted)):
            values[name] = proportion(value, n).to_json() if value is not None else None
        return values


def measure(decisions: Sequence[Decision], planted: Mapping[str, str]) -> dict[str, Score]:
    """One score per track. ``planted``: the track that each signal belongs to; a signal that is not named belongs to none."""
    pairs = [(decision.track, planted.get(decision.signal, "none")) for decision in decisions]
    return {
        track: Score(
            track,
            sum(belongs == track for _, belongs in pairs),
            sum(sent == track for sent, _ in pairs),
            sum(sent == belongs == track for sent, belongs in pairs),
        )
        for track in TRACKS
    }
