"""Cards by name: memory and dense bf16 peak from NVIDIA's public papers, and the prices that a plan assumes. Torch-free.

Peaks are of dense products; where a paper prints them with sparsity, half of that. H100, H200: their data sheets, SXM5 (1979 sparse), PCIe (1513);
B200: HGX B200 data sheet (36 PFLOP/s sparse and 1.44 TB of eight); A100: data sheet; L40S: data sheet (362.05); RTX: the whitepapers of the Ada and
the RTX Blackwell architectures, bf16 with fp32 accumulation (with which consumer cards run at half their fp16 rate). Prices are round rental rates.
"""

import difflib
from dataclasses import dataclass

from qi2.core.errors import QI2Error


@dataclass(frozen=True)
class Card:
    """memory in GB as the papers say, counted as 10^9 bytes (drivers report up to 7 % more, which a plan leaves free).

    peak in TFLOP/s of dense bf16 matrix products with fp32 accumulation; price in USD per hour (assumed).
    """

    name: str
    memory: float
    peak: float
    price: float


CARDS = {
    card.name: card
    for card in (
        Card("H100", 80, 989, 2.5),
        Card("H100-PCIe", 80, 756, 2.0),
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
