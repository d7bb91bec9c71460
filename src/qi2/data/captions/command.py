"""``qi2 data caption``: captions for a folder that the ingest stage wrote, and how true they are where the scenes are known."""

import json
from pathlib import Path

from qi2.core.errors import QI2Error
from qi2.data.captions.captioner import load_captioner
from qi2.data.captions.config import CaptionConfig
from qi2.data.captions.evaluate import Figure, lines
from qi2.data.captions.run import EVALUATION, caption


def caption_command(raw: Path, config: CaptionConfig, out: Path, facts: Path | None, limit: int, measure: bool) -> list[str]:
    """Caption and return what to print: counts by scheme and status, and with ``measure`` the figures of `evaluate`."""
    counts = caption(raw, load_captioner(config), config, out, read_facts(facts) if facts else None, limit, measure)
    told = [f"{name:36} {count:.0f}" for name, count in counts.items()]
    if measure:
        figures = {name: Figure(**figure) for name, figure in json.loads((out / EVALUATION).read_text()).items()}
        told += ["", *lines(figures)] if figures else ["", "no scene is known of any of these pictures, so nothing could be measured"]
    return told


def read_facts(path: Path) -> dict[str, str]:
    """{id: facts} of a file with one JSON object a line: ``{"id": "user-000000", "facts": "taken in Lisbon in 1998"}``."""
    if not path.is_file():
        raise QI2Error(f'{path} does not exist; give a file with lines such as {{"id": "user-000000", "facts": "taken in Lisbon in 1998"}}')
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            values = json.loads(line)
            found[str(values["id"])] = str(values["facts"])
        except (ValueError, TypeError, KeyError) as error:
            raise QI2Error(f'{path}, line {number}: {error!r}; write {{"id": "user-000000", "facts": "..."}}') from error
    return found
