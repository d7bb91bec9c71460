"""One prompt of a suite."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """``truth`` is what the scorer and the aggregator compare with; ``references`` are the files that an edit starts from."""

    id: str
    prompt: str
    category: str
    references: tuple[Path, ...]
    truth: Mapping[str, Any]
