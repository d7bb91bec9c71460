"""What a plan assumes about the machine and the samples. Torch-free."""

from dataclasses import dataclass

SHARDINGS = {"ddp": (False, False, False), "zero1": (False, False, True), "zero2": (False, True, True), "zero3": (True, True, True)}
"""Whether weights, gradients and optimiser states are split over the cards (ZeRO stages; zero3 is FSDP's full sharding)."""
CHECKPOINTINGS = ("none", "block")
DTYPES = ("bf16", "fp32")


@dataclass
class PlanConfig:
    """``price`` is USD per card and hour; None takes the card's own. ``batches``: ``recipe`` takes its batch sizes, ``table2`` divides
    a phase's batch by a size's ratio to the phase's smallest, which gives the report's 32K/16K and 16K/8K/4K (Table 2)."""

    gpus: int = 8
    kind: str = "H200"
    price: float | None = None
    utilisation: float = 0.4  # of the card's dense bf16 peak, recomputation counted as work
    sharding: str = "zero2"
    checkpointing: str = "block"
    dtype: str = "bf16"
    text_tokens: int = 256  # per prompt
    references: int = 1  # per edit, each as large as the target
    batches: str = "recipe"
    reserve: float = 0.08  # share of the memory for the driver's context, communication buffers and fragmentation
