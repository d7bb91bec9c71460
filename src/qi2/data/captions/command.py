"""What ``qi2 data caption`` does."""

import json
from dataclasses import fields
from pathlib import Path

from qi2.data.captions.captioner import load_captioner
from qi2.data.captions.config import CaptionConfig
from qi2.data.captions.evaluate import format_figures
from qi2.data.captions.intervals import Figure
from qi2.data.captions.rows import read_facts
from qi2.data.captions.run import TABLE, caption


def caption_command(raw: Path, config: CaptionConfig, out: Path, facts: Path | None = None, limit: int = 0, evaluate: bool = False) -> str:
    """Caption the shards in ``raw`` into ``out`` and return what was counted and, where wanted, measured, as text to print."""
    given = read_facts(facts) if facts else None
    counts = caption(raw, load_captioner(config), config, out, given, limit, evaluate)
    lines = [f"{name.removeprefix('captions/'):<24} {value:.0f}" for name, value in counts.items()]
    if evaluate:
        stored = json.loads((out / "evaluation.json").read_text())
        figures = {name: Figure(**{field.name: values[field.name] for field in fields(Figure)}) for name, values in stored.items()}
        lines += ["", format_figures(figures) or "no row has a known scene, so nothing could be measured"]
    return "\n".join([*lines, f"written to {out / TABLE}"])
