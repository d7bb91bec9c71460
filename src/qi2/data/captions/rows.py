"""Which rows are captioned, and what is known about them beforehand."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qi2.core.errors import QI2Error
from qi2.data.captions.truth import sayable
from qi2.data.shards import SIDECAR
from qi2.data.world.scene import Scene

if TYPE_CHECKING:
    import pandas as pd


def choose_rows(table: "pd.DataFrame", with_scene: bool, limit: int = 0) -> "pd.DataFrame":
    """Rows whose owners have not opted out, the first ``limit`` of them if above 0; raises QI2Error when none is left."""
    chosen = table[~table["opt_out"]]
    chosen = chosen[scene_known(chosen)] if with_scene else chosen
    chosen = chosen.head(limit) if limit > 0 else chosen
    if chosen.empty:
        why = "has a known scene" if with_scene else "may be used"
        raise QI2Error(f"none of {len(table)} rows {why}; point to a folder that the ingest stage wrote, with such rows")
    return chosen.reset_index(drop=True)


def scene_known(table: "pd.DataFrame") -> "pd.Series[bool]":
    """Rows whose picture shows exactly the scene of the sidecar: planted defects are turned, cut or otherwise changed."""
    return table["scene"].map(lambda scene: read_scene(scene) is not None).astype(bool) & (table["source"] != "defect")


def read_scene(scene: str | None) -> Scene | None:
    """The scene of a sidecar row; None where there is none, or one that exact captions have no words for."""
    try:
        known = Scene.from_json(scene) if scene else None
    except (QI2Error, ValueError):  # another version's, or a ground truth of another kind
        return None
    return known if known is not None and sayable(known) else None


def facts_by_id(rows: "pd.DataFrame", given: Mapping[str, str] | None = None) -> dict[str, str]:
    """What knowledge captions are conditioned on: the given facts, or else the caption that came with a picture and where it comes from."""
    if given is None:
        return {row["id"]: _own_facts(row) for row in rows[["id", "captions", "caption_kind", "origin"]].to_dict("records")}
    if not set(given) & set(rows["id"]):
        raise QI2Error(f"none of the {len(given)} ids of the facts is among the {len(rows)} rows; use the ids of {SIDECAR}")
    return {name: given.get(name, "") for name in rows["id"]}


def _own_facts(row: Mapping[Any, Any]) -> str:
    lines = [f"Caption: {row['captions'][0]}"] if len(row["captions"]) and row["caption_kind"] != "instruction" else []
    return "\n".join(lines + ([f"Source: {row['origin']}"] if row["origin"] else []))


def read_facts(path: Path) -> dict[str, str]:
    """Facts by row id, from lines of ``{"id": ..., "facts": ...}``; raises QI2Error that names the first line that is none."""
    if not path.exists():
        raise QI2Error(f'{path} does not exist; give a file with lines like {{"id": "user-000000", "facts": "Taken in Oslo in 1931."}}')
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            values = json.loads(line) if line.strip() else None
        except ValueError as error:
            raise QI2Error(f"line {number} of {path} is not JSON ({error}); write one object a line") from error
        if values is None:
            continue
        if not isinstance(values, dict) or not all(isinstance(values.get(key), str) for key in ("id", "facts")):
            raise QI2Error(f'line {number} of {path} has no text "id" and "facts"; write {{"id": "...", "facts": "..."}}')
        found[values["id"]] = values["facts"]
    return found
