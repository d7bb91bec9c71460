"""One prompt of a suite."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qi2.evaluation.suites.references.base import Reference


@dataclass(frozen=True)
class Row:
    """``truth`` is what the scorer and the aggregator compare with; ``references`` are the pictures that an edit starts from."""

    id: str
    prompt: str
    category: str
    references: tuple[Reference, ...]
    truth: Mapping[str, Any]
