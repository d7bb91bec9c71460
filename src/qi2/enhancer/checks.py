"""What a rewrite must not break: its quoted texts, its language, its length, and what the user asked for (report: rule-based textual constraints)."""

import re
import unicodedata
from collections import Counter
from functools import lru_cache

from qi2.enhancer.config import LimitsConfig
from qi2.enhancer.strategies.base import quoted

REPEATS = 4  # times that one content word may occur more often than in the original before it counts as stuffed
SMALL = frozenset(re.findall(r"\w+", "a an the of on in at to and with is are it its for by from as that this there or be over under"))
PUFFERY = re.compile(
    r"\b(?:masterpiece|best quality|highly detailed|ultra[- ]detailed|award[- ]winning|trending on \w+|8k|4k|hdr|perfect|exactly as asked|score \d+|"
    r"high quality|correct|accurate|reward)\b",
    re.I,
)
FOREIGN_SHARE = 0.3  # of the letters may be of another script than most of the original's
SCRIPTS = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "CYRILLIC", "ARABIC", "HEBREW", "GREEK", "THAI", "DEVANAGARI", "LATIN")


def faults(original: str, rewritten: str, limits: LimitsConfig) -> list[str]:
    """What is wrong with a rewrite, one phrase each; nothing is."""
    found = []
    if not re.search(r"\w", rewritten):
        return ["it is empty"]
    if lost := Counter(quoted(original)) - Counter(quoted(rewritten)):
        found.append(f"the text {next(iter(lost))} was changed or left out")
    if extra := [text for text in Counter(quoted(rewritten)) - Counter(quoted(original)) if text.strip("\"'“”").upper() not in original.upper()]:
        found.append(f"the text {extra[0]} was not asked for")
    if script(original) != script(rewritten) and script(original) is not None:
        found.append(f"it is in another script ({script(rewritten)}) than the original ({script(original)})")
    if too_long(original, rewritten, limits):
        found.append(f"it is too long: {len(rewritten.split())} words for {len(original.split())}")
    if stuffed := stuffing(original, rewritten):
        found.append(f"it repeats or adds keywords: {', '.join(stuffed[:3])}")
    return found


def too_long(original: str, rewritten: str, limits: LimitsConfig) -> bool:
    """Whether a rewrite exceeds a limit."""
    return len(rewritten) > limits.characters or len(rewritten.split()) > limits.growth * len(original.split()) + limits.spare


def stuffing(original: str, rewritten: str) -> list[str]:
    """Words that a rewrite repeats far more often than its original, and praise or quality words that say nothing of the picture."""
    before, after = (Counter(word for word in re.findall(r"\w+", text.lower()) if word not in SMALL) for text in (original, rewritten))
    repeated = [word for word, n in after.items() if n - before[word] > REPEATS]
    puffed = [found[0] for found in PUFFERY.finditer(rewritten) if found[0].lower() not in original.lower()]
    return repeated + puffed


@lru_cache(maxsize=4096)
def script(text: str) -> str | None:
    """The script of most letters outside quoted texts; None without letters, or where two scripts share them."""
    for shown in quoted(text):
        text = text.replace(shown, " ")
    counts = Counter(_script_of(letter) for letter in text if letter.isalpha())
    if not counts:
        return None
    name, n = counts.most_common(1)[0]
    return name if n >= (1 - FOREIGN_SHARE) * counts.total() else None


def _script_of(letter: str) -> str:
    name = unicodedata.name(letter, "")
    return next((script for script in SCRIPTS if script in name), "OTHER")
