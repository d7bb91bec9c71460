"""Parameters of the pages of text (report 2.1: slides, posters, rendered assets). The report gives no shares; all numbers are ours."""

from dataclasses import dataclass, field


@dataclass
class PagesConfig:
    """How many pages of which kinds and languages; see `kinds.KINDS` and `languages.LANGUAGES`, all of them in equal shares where none is named.

    Languages that no font of the machine can show leave their share to the others. The pages depend on the fonts, so other machines draw others.
    """

    count: int = 0
    heldout: int = 0
    sizes: list[int] = field(default_factory=lambda: [256, 512, 768, 1024])  # px; width and height are drawn one by one, at most 1:3
    kinds: dict[str, float] = field(default_factory=dict)  # relative
    languages: dict[str, float] = field(default_factory=dict)  # relative
    fonts: list[str] = field(default_factory=list)  # folders to look into beside the usual ones
