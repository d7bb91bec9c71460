"""In which words the enhancer's exam asks for the same picture, and what the report shows of it. Torch-free."""

RESULTS = "enhanced.json"
FULL, SHORT, SFT, REWRITTEN, AGAIN = "full", "short", "sft", "rewritten", "full_rewritten"
LABELS = {FULL: "in full", SHORT: "short", SFT: "rewritten, SFT", REWRITTEN: "rewritten, SFT + RL", AGAIN: "in full, rewritten"}


def shown_rows(n: int, shown: int) -> list[int]:
    """Which of ``n`` items the report shows, spread over all."""
    return [round(k * (n - 1) / max(1, shown - 1)) for k in range(min(shown, n))]
