"""Cards by name: memory and dense bf16 peak from the vendors' data sheets, and the prices that a plan assumes. Torch-free."""

import difflib
from dataclasses import dataclass

from qi2.core.errors import QI2Error


@dataclass(frozen=True)
class Card:
    """memory in GB (10^9 bytes); peak in TFLOP/s of dense bf16 matrix products with fp32 accumulation; price in USD per hour (assumed)."""

    name: str
    memory: float
    peak: float
    price: float


CARDS = {
    card.name: card
    for card in (  # where a data sheet prints figures with sparsity, half of them; prices are round rental rates, not quotations
        Card("H100", 80, 989, 2.5),
        Card("H200", 141, 989, 3.5),
        Card("B200", 180, 2250, 5.5),
        Card("A100-80GB", 80, 312, 1.6),
        Card("A100-40GB", 40, 312, 1.2),
        Card("L40S", 48, 362, 0.9),
        Card("RTX4090", 24, 165.2, 0.4),
        Card("RTX5090", 32, 209.5, 0.6),
        Card("cpu", 8, 0.32, 0.05),  # no data sheet: two cores of 160 GFLOP/s
    )
}


def card(name: str) -> Card:
    """The card of that name, whatever its case, spaces and dashes. Raises QI2Error that names the nearest."""
    plain = {_plain(known): known for known in CARDS}
    if _plain(name) in plain:
        return CARDS[plain[_plain(name)]]
    near = difflib.get_close_matches(_plain(name), list(plain), n=1, cutoff=0.0)
    raise QI2Error(f"unknown card {name}; did you mean {plain[near[0]]}? Known: {', '.join(CARDS)}")


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
