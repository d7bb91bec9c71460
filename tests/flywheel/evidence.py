"""Made-up evidence: failures whose probes succeed with given frequencies."""

import numpy as np

from qi2.flywheel.attribution.cases import Case, Evidence, Tally

PICTURES = {"own": 8, "low": 4, "high": 4, "steps": 4, "before": 4, "reworded": 8, "enhanced": 8}


def group(n: int, kind: str, prompt: str = "two red circles on a pink background", seed: int = 0, **rates: float) -> list[Evidence]:
    """``n`` failures of one kind; ``rates``: success of each probe that was run."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        case = Case(f"{kind}-{seed}-{i}", "t2i", kind, prompt, ("count",))
        tallies = {probe: Tally(int(rng.binomial(PICTURES[probe], rate)), PICTURES[probe]) for probe, rate in rates.items()}
        found.append(Evidence(case, tallies, {"another wording": tallies["reworded"]} if "reworded" in tallies else {}))
    return found


def near(evidence: list[Evidence], similarity: float, usual: float) -> list[Evidence]:
    """The same with neighbours that are so similar on average, where ordinary prompts have ``usual``."""
    rng = np.random.default_rng(1)
    ordinary = tuple(rng.normal(usual, 0.02, 60))
    for item in evidence:
        item.neighbours, item.usual = tuple(rng.normal(similarity, 0.02, 8)), ordinary
    return evidence
