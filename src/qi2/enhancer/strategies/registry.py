"""All degradation strategies by name, in the order in which they are applied: what is taken out first, then what is said in other words."""

from collections.abc import Sequence
from pathlib import Path

from qi2.core.errors import QI2Error
from qi2.enhancer.strategies import background, concise, layout, lighting, relate, style, terse, texture
from qi2.enhancer.strategies.base import Strategy
from qi2.enhancer.strategies.colloquial import colloquial, merged

FIXED = (lighting.STRATEGY, texture.STRATEGY, background.STRATEGY, relate.STRATEGY, layout.STRATEGY, style.STRATEGY, concise.STRATEGY)
NAMES = (*(strategy.name for strategy in FIXED), "colloquial", terse.STRATEGY.name)


def strategies(wordings: Sequence[str | Path] = ()) -> dict[str, Strategy]:
    """{name: strategy}; ``wordings``: further files of everyday words."""
    return {strategy.name: strategy for strategy in (*FIXED, colloquial(merged(wordings)), terse.STRATEGY)}


def check_mixture(mixture: dict[str, float], key: str) -> None:
    """Raises QI2Error where a mixture names an unknown strategy or gives no chance."""
    for name, chance in mixture.items():
        if name not in NAMES:
            raise QI2Error(f"{key}: no strategy {name!r}; choose from {', '.join(NAMES)}")
        if not 0 <= chance <= 1:
            raise QI2Error(f"{key}.{name}={chance} is not a chance; give 0 to 1")
