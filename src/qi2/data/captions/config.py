"""Parameters of captioning. Torch-free. The report gives schemes, not numbers; every number here is ours."""

from dataclasses import dataclass, field


@dataclass
class CaptionConfig:
    """``path`` is a Qwen3-VL folder or hub id, ``URL#MODEL`` of a server of chat completions, or ``truth`` for exact captions of the world's scenes."""

    path: str = ""
    schemes: list[str] = field(default_factory=lambda: ["general", "text", "knowledge", "structured"])
    languages: list[str] = field(default_factory=lambda: ["en"])  # of general and knowledge captions
    lengths: list[str] = field(default_factory=lambda: ["short", "medium", "long"])  # of general captions
    text_variants: list[str] = field(default_factory=lambda: ["plain"])  # plain, slide, comic, poster, education
    one_each: bool = False  # one language, length and text variant per row, drawn by its id, instead of all of them
    templates: str = ""  # folder of prompt templates that replace those of the same name
    batch_size: int = 8
    max_tokens: int = 1024
    max_pixels: int = 1024 * 1024  # larger pictures are shown to the model in this size
    retries: int = 2  # sampled attempts after a greedy answer that fails its check
    temperature: float = 0.7  # of the retries
    seed: int = 0
    device: str = "cpu"
