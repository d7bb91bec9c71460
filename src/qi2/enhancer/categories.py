"""What a prompt is about: General, Portrait, Text or Complex Text (report section 3.3). By rules; a language model may decide instead (``llm``)."""

import re

from qi2.enhancer.strategies.base import quoted

PEOPLE = re.compile(
    r"\b(?:portraits?|faces?|selfies?|headshots?|(?:wo)?m[ae]n|girls?|boys?|ladies|lady|persons?|people|child(?:ren)?|bab(?:y|ies)|models?|hair|skin|"
    r"smiling|wearing)\b",
    re.I,
)
DESIGN = re.compile(
    r"\b(?:infographics?|posters?|slides?|menus?|newspapers?|storyboards?|comics?|charts?|diagrams?|user interface|ui|title|headline|page)\b", re.I
)
MANY = 3  # texts from which on they are complex


def classify(prompt: str) -> str:
    """One of ``CATEGORIES``: texts to be shown come before people, who come before everything else."""
    texts = quoted(prompt)
    if len(texts) >= MANY or (len(texts) >= 2 and DESIGN.search(prompt)) or sum(len(text.split()) for text in texts) > 12:
        return "complex_text"
    if texts:
        return "text"
    return "portrait" if PEOPLE.search(prompt) else "general"
