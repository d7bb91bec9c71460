"""What evaluating on suites leaves behind: results.json, flat metrics.json, and for people a short table and a sheet of pictures per suite."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qi2.core.publish import publish
from qi2.evaluation.bootstrap import Figure
from qi2.evaluation.store import Store
from qi2.evaluation.suites.run import Result
from qi2.evaluation.suites.sheet import sheet


def write(out: Path, results: Sequence[Result], price: float = 0.0, store: Store | None = None) -> str:
    """Publish results.json and metrics.json to ``out`` and return the table; ``price``: USD per hour of this machine.

    ``sheets/SUITE.png`` where the ``store`` of the pictures is given.
    """
    text = table(results, price)
    metrics = {name: figure.value for one in results for name, figure in figure_names(one).items()}
    with publish(out) as staging:
        (staging / "results.json").write_text(json.dumps({"results": [facts(one, price) for one in results]}, indent=1))
        (staging / "metrics.json").write_text(json.dumps(metrics, indent=1))
        (staging / "table.txt").write_text(text + "\n")
        if store:
            _sheets(staging / "sheets", results, store)
    return text


def figure_names(result: Result) -> dict[str, Figure]:
    """A result's figures as ``suite/SUITE/PROTOCOL/SCORER/FIGURE/MODEL``."""
    return {f"suite/{result.suite.name}/{result.label}/{name}/{result.model}": figure for name, figure in result.figures.items()}


def _sheets(folder: Path, results: Sequence[Result], store: Store) -> None:
    folder.mkdir()
    for name in dict.fromkeys(one.suite.name for one in results):
        sheet([one for one in results if one.suite.name == name], store).save(folder / f"{name}.png")


def facts(result: Result, price: float) -> dict[str, Any]:
    """All of a result, with the suite's version."""
    config, drawn = result.suite.config, result.drawn
    suite = {"name": config.name, "version": config.version, "hash": result.suite.hash, "prompts": len(result.suite.rows), "images": config.images}
    return {
        "model": result.model,
        "setting": dict(result.setting),
        "suite": suite | {"task": config.task, "licence": config.licence, "source": config.source},
        "label": result.label,
        "scorer": result.identity,
        "figures": {name: figure.to_json() for name, figure in result.figures.items()},
        "pictures": {"drawn": drawn.drawn, "reused": len(drawn.pictures) - drawn.drawn, "seconds": drawn.seconds, "per_s": rate(drawn.drawn, drawn.seconds)},
        "spent": {"seconds": drawn.spent_s, "usd": drawn.spent_s / 3600 * price},
        "answers": {"asked": result.asked, "unanswered": result.unanswered, "seconds": result.seconds},
        "items": result.items,
    }


def rate(count: int, seconds: float) -> float:
    """Pictures per second; 0 where none was drawn."""
    return count / seconds if count and seconds else 0.0


def table(results: Sequence[Result], price: float) -> str:
    """One block per result: the score and its parts with intervals, then what it took."""
    return "\n\n".join(_block(result, price) for result in results)


def _block(result: Result, price: float) -> str:
    drawn, config = result.drawn, result.suite.config
    width = max(map(len, result.figures))
    lines = [f"{result.model} on {config.name} ({len(result.suite.rows)} prompts x {config.images}): {result.label}"]
    lines += [f"  {name:<{width}}  {figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]  n={figure.n}" for name, figure in result.figures.items()]
    drew = f"drew {drawn.drawn} pictures in {drawn.seconds:.1f} s ({rate(drawn.drawn, drawn.seconds):.2f}/s)" if drawn.drawn else "drew none"
    cost = f", worth {drawn.spent_s / 3600 * price:.4f} USD" if price else ""
    lines.append(f"  {drew}, reused {len(drawn.pictures) - drawn.drawn}; all took {drawn.spent_s:.1f} s{cost}; scored in {result.seconds:.1f} s")
    if result.unanswered:
        lines.append(f"  {result.unanswered} replies could not be understood and are left out")
    return "\n".join(lines)
