"""Where the data flywheel's accepted data come from. Torch-free."""

from dataclasses import dataclass


@dataclass
class AcceptedConfig:
    """Samples that review has accepted, which supervised fine-tuning reads beside the curated ones (report 2.4: the curated data set of the flywheel)."""

    path: str = ""  # folder of shards that a round has written; "": none
    repeat: int = 2  # how often each of them comes for one curated row of its kind
