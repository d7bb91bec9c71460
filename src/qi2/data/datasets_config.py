"""Parameters of the six training data sets. Torch-free. What a set holds, and its mixture, is curation's to say (see curate_config.py)."""

from dataclasses import dataclass


@dataclass
class DatasetsConfig:
    """How the sets are written."""

    shard_samples: int = 4096  # samples per tar shard
