"""A user's own images, from wherever they lie: one reader a file behind one registry."""

from qi2.data.sources.registry import fingerprint, read_source, source_kind
from qi2.data.sources.rows import UserRow

__all__ = ["UserRow", "fingerprint", "read_source", "source_kind"]
