"""Which version is the champion: its alias, its files under ``runs/SCALE/champion``, and the way back."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

from qi2.core.errors import QI2Error
from qi2.core.publish import publish
from tasks.registry import Registry

CHAMPION, CHALLENGER = "champion", "challenger"
CROWNED, WITHDRAWN = "crowned", "withdrawn"  # tags: when a version last became champion (seconds since 1970), and why it was rolled back


def crown(store: Registry, scale: str, runs: Path, stage: str, number: str) -> None:
    """Make a version the champion. Its files are laid out before its alias is set: whoever follows the alias finds them."""
    source = store.folder(number)
    with publish(runs / "champion") as staging:
        shutil.copytree(source, staging, dirs_exist_ok=True)
        facts = {"model": store.name, "version": number, "stage": stage, "scale": scale, "sha256": store.version(number).tags["sha256"]}
        (staging / "champion.json").write_text(json.dumps(facts, indent=1))
    store.tag(number, {CROWNED: f"{time.time():.3f}"})
    store.set_alias(CHAMPION, number)
    store.drop_alias(CHALLENGER, number)


def before(store: Registry, wanted: str = "") -> Any:
    """The version to go back to: the one ``wanted``, else the last other champion that was not rolled back itself.

    Raises QI2Error where there is none, naming those that there are.
    """
    now = store.alias(CHAMPION)
    if now is None:
        raise QI2Error(f"{store.name} has no champion to roll back; run make run, which promotes one")
    others = [version for version in store.versions() if version.version != now.version]
    if wanted:
        found = [version for version in others if str(version.version) == wanted]
    else:
        found = sorted((v for v in others if CROWNED in v.tags and WITHDRAWN not in v.tags), key=lambda v: float(v.tags[CROWNED]))
    if not found:
        names = ", ".join(str(version.version) for version in others) or "none"
        what = f"no other version {wanted}" if wanted else "no earlier champion"
        raise QI2Error(f"{store.name} has {what} beside the champion, version {now.version}; others: {names} (name one with TO=VERSION)")
    return found[-1]
