"""The gate behind curation: Great Expectations over the curated manifests, with Data Docs a failed flow links to.

Only tables are checked, never pixels. The import costs seconds, so this runs in a process of its own (``python -m tasks gate``).
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qi2.core.errors import QI2Error

if TYPE_CHECKING:
    import pandas as pd

HEX64 = "^[0-9a-f]{64}$"
BUCKET = "^[1-9][0-9]*x[1-9][0-9]*$"
EXAMPLES = 5  # rows named per failed expectation
RANGES = {"nsfw": (0, 1), "clip": (-1, 1), "entropy": (0, 8), "difference_entropy": (0, 9), "jpeg_quality": (1, 100), "blockiness": (0, 1)}
NEVER_NULL = ("id", "shard", "offset", "length", "licence", "role", "short_side", "pixel_sha256", *(set(RANGES) - {"clip"}))


@dataclass(frozen=True)
class GateResult:
    """``failures``: one line per failed expectation; ``docs_path``: index.html of the Data Docs."""

    success: bool
    docs_path: Path
    failures: tuple[str, ...]


def check_curated(runs: Path, scale: str) -> GateResult:
    """Check ``runs/curated`` of one scale and write Data Docs to ``runs/data_docs``.

    Raises QI2Error when the curate stage has not run.
    """
    runs = Path(runs)
    funnel = _funnel(runs)
    tables = {name: _manifest(runs, name) for name in funnel}
    suites = {name: (tables[name], stage_suite(stage["thresholds"])) for name, stage in funnel.items()}
    suites["funnel"] = (_survival(funnel, tables), _funnel_suite())
    suites["split"] = (_heldout(runs, tables), _split_suite())
    docs = runs / "data_docs"
    failures = validate(scale, suites, docs)
    return GateResult(not failures, docs / "index.html", tuple(failures))


def _funnel(runs: Path) -> dict[str, Any]:
    path = runs / "curated" / "funnel.json"
    if not path.exists():
        raise QI2Error(f"{path} does not exist; run the curate stage before its gate")
    return dict(json.loads(path.read_text()))


def _manifest(runs: Path, stage: str) -> "pd.DataFrame":
    import pandas as pd

    return stage_table(pd.read_parquet(runs / "curated" / f"{stage}.parquet"))


def stage_table(table: "pd.DataFrame") -> "pd.DataFrame":
    """A stage's rows with what the expectations look at beyond the manifest's columns."""
    ids = set(table["id"])
    spared = table["exempt"].str.split(",") if "exempt" in table else [[]] * len(table)
    target = table["role"] != "reference"
    return table.assign(
        caption_count=table["captions"].map(len).where(target, 1),
        missing_references=[sum(name not in ids for name in names) for names in table["references"]],
        bare_pair=(table["role"] == "pair") & (table["references"].map(len) == 0),
        nsfw_judged=[int("nsfw" not in names) for names in spared],
        clip_judged=[int(role == "image" and "clip" not in names) for role, names in zip(table["role"], spared, strict=True)],
    ).drop(columns=["captions", "references"])


def _survival(funnel: Mapping[str, Any], tables: "Mapping[str, pd.DataFrame]") -> "pd.DataFrame":
    import pandas as pd

    lines = []
    for name, stage in funnel.items():
        low, high = stage["thresholds"]["survival"]
        accounted = stage["kept"] + sum(stage["rejected"].values())
        share = stage["kept"] / max(stage["in"], 1)
        line = {"stage": name, "in": stage["in"], "accounted": accounted, "kept": stage["kept"], "rows": len(tables[name])}
        lines.append(line | {"survival": share, "low": low, "high": high})
    return pd.DataFrame(lines)


def _heldout(runs: Path, tables: "Mapping[str, pd.DataFrame]") -> "pd.DataFrame":
    """Held-out target rows, and whether any training target has the same file or the same pixels."""
    import pandas as pd

    scores = pd.read_parquet(runs / "curated" / "scores.parquet", columns=["id", "split", "role", "sha256", "pixel_sha256"])
    rows = scores[(scores["split"] == "heldout") & (scores["role"] != "reference")]
    train = pd.concat([table[table["role"] != "reference"] for table in tables.values()])
    leaked = rows["sha256"].isin(train["sha256"]) | rows["pixel_sha256"].dropna().isin(train["pixel_sha256"])
    return rows.assign(seen_in_training=leaked.fillna(False).astype(bool), known_id=rows["id"].isin(train["id"]))


def stage_suite(limits: Mapping[str, Any]) -> list[Any]:
    """The expectations of one stage's rows."""
    from great_expectations import expectations as gxe
    from great_expectations.expectations.row_conditions import Column

    checks: list[Any] = [gxe.ExpectTableRowCountToBeBetween(min_value=1), gxe.ExpectColumnValuesToBeUnique(column="id")]
    checks += [gxe.ExpectColumnValuesToMatchRegex(column=name, regex=HEX64) for name in ("sha256", "pixel_sha256")]
    checks += [gxe.ExpectColumnValuesToNotBeNull(column=name) for name in sorted(NEVER_NULL)]
    checks += [gxe.ExpectColumnValuesToBeBetween(column=name, min_value=low, max_value=high) for name, (low, high) in RANGES.items()]
    checks += [
        gxe.ExpectColumnValuesToBeInSet(column="split", value_set=["train"]),
        gxe.ExpectColumnValuesToBeInSet(column="task", value_set=["t2i", "ti2i", "reference"]),
        gxe.ExpectColumnValuesToBeNull(column="broken"),
        gxe.ExpectColumnValuesToBeBetween(column="length", min_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="short_side", min_value=min(limits["sides"])),
        gxe.ExpectColumnValuesToBeBetween(column="caption_count", min_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="missing_references", max_value=0),
        gxe.ExpectColumnValuesToBeInSet(column="bare_pair", value_set=[False]),
        gxe.ExpectColumnValuesToBeInSet(column="side", value_set=limits["sides"]),
        gxe.ExpectColumnValuesToMatchRegex(column="bucket", regex=BUCKET),
        gxe.ExpectColumnSumToBeBetween(column="weight", min_value=1 - 1e-6, max_value=1 + 1e-6),
    ]
    if limits["max_nsfw"] is not None:
        checks.append(gxe.ExpectColumnValuesToBeBetween(column="nsfw", max_value=limits["max_nsfw"], row_condition=Column("nsfw_judged") == 1))
    if limits["min_clip"] is not None:
        judged = Column("clip_judged") == 1
        checks.append(gxe.ExpectColumnValuesToNotBeNull(column="clip", row_condition=judged))
        checks.append(gxe.ExpectColumnValuesToBeBetween(column="clip", min_value=limits["min_clip"], row_condition=judged))
    return checks


def _funnel_suite() -> list[Any]:
    from great_expectations import expectations as gxe

    return [
        gxe.ExpectColumnPairValuesToBeEqual(column_A="in", column_B="accounted"),
        gxe.ExpectColumnPairValuesToBeEqual(column_A="kept", column_B="rows"),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="survival", column_B="low", or_equal=True),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="high", column_B="survival", or_equal=True),
    ]


def _split_suite() -> list[Any]:
    from great_expectations import expectations as gxe

    return [gxe.ExpectColumnValuesToBeInSet(column=name, value_set=[False]) for name in ("seen_in_training", "known_id")]


def validate(scale: str, suites: "Mapping[str, tuple[pd.DataFrame, list[Any]]]", docs: Path) -> list[str]:
    """Run every suite, write the Data Docs, and describe what failed."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)  # they would bury the failures in the flow's message
    shutil.rmtree(docs, ignore_errors=True)
    for site in list(context.get_site_names()):
        context.delete_data_docs_site(site)
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    context.add_data_docs_site(scale, {"class_name": "SiteBuilder", "store_backend": store, "site_index_builder": index})
    source = context.data_sources.add_pandas(f"{scale} curated")
    failures: list[str] = []
    for name, (table, checks) in suites.items():
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all rows")
        suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=checks))
        definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
        key = "id" if "id" in table else "stage"
        shown = {"result_format": "SUMMARY", "unexpected_index_column_names": [key], "partial_unexpected_count": EXAMPLES}
        result = definition.run(batch_parameters={"dataframe": table}, result_format=shown)
        failures += [_describe(name, key, item) for item in result.results if not item.success]
    context.build_data_docs()
    return failures


def _describe(name: str, key: str, item: Any) -> str:
    settings = item.expectation_config.kwargs
    columns = [str(settings[part]) for part in ("column", "column_A", "column_B") if part in settings]
    found = item.result or {}
    rows = [str(row[key]) for row in found.get("partial_unexpected_index_list") or []]
    seen = found.get("partial_unexpected_list") or found.get("observed_value") or item.exception_info
    examples = ", ".join(map(_plain, seen)) if isinstance(seen, list) else str(seen)
    where = f" ({', '.join(rows)})" if rows else ""
    rule = item.expectation_config.type.removeprefix("expect_").replace("_", " ")
    return f"{name} {' / '.join(columns)}: {rule} failed for {found.get('unexpected_count', '?')} rows{where}, e.g. {examples[:120]}"


def _plain(value: Any) -> str:
    """A value, or a pair of them, without the names of numpy's types."""
    return f"({', '.join(map(str, value))})" if isinstance(value, tuple) else str(value)
