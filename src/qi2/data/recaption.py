"""Captions that ``qi2 data caption`` wrote take the place of a row's own, or stand beside them (report 2.2)."""

from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.errors import QI2Error
from qi2.data.curate_config import CurateConfig

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["id", "scheme", "caption", "status"]
MODES = ("replace", "add")


def recaption(rows: "pd.DataFrame", config: CurateConfig) -> "pd.DataFrame":
    """The sidecar's rows with the captions of ``config.captions`` (files of `captions.run`), in the order of ``config.caption_schemes``.

    Only T2I rows are captioned anew: the texts of edits are instructions. Rows without a caption that passed its check keep their own.
    Raises QI2Error for an unknown mode, and for a file that is none or knows none of the rows.
    """
    if config.caption_mode not in MODES:
        raise QI2Error(f"curate.caption_mode={config.caption_mode!r} is none of {', '.join(MODES)}")
    given: dict[str, list[tuple[str, str]]] = {}
    for path in config.captions:
        for name, scheme, caption in _read(Path(path), set(rows["id"]), config.caption_schemes):
            given.setdefault(name, []).append((scheme, caption))
    rank = {scheme: place for place, scheme in enumerate(config.caption_schemes)}
    captions, kinds = rows["captions"].tolist(), rows["caption_kind"].tolist()
    for place, (name, task) in enumerate(zip(rows["id"], rows["task"], strict=True)):
        if name in given and task == "t2i":
            new = sorted(given[name], key=lambda item: rank[item[0]])  # stable: languages and lengths as they were written
            own = list(captions[place]) if config.caption_mode == "add" else []
            captions[place] = [*own, *(caption for _, caption in new)]
            kinds[place] = kinds[place] if own else new[0][0]
    return rows.assign(captions=captions, caption_kind=kinds)


def _read(path: Path, known: set[str], schemes: list[str]) -> list[tuple[str, str, str]]:
    import pandas as pd

    try:
        table = pd.read_parquet(path, columns=COLUMNS)
    except Exception as error:  # no file, no parquet file, or other columns
        raise QI2Error(f"curate.captions: {path} is not a captions.parquet with the columns {', '.join(COLUMNS)}: {error}") from error
    table = table[(table["status"] == "ok") & table["scheme"].isin(schemes)]
    if not known.intersection(table["id"]):
        raise QI2Error(f"curate.captions: {path} has no caption of the schemes {', '.join(schemes)} for any row; caption runs/SCALE/raw of this scale")
    return list(table[["id", "scheme", "caption"]].itertuples(index=False, name=None))
