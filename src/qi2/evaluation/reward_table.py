"""What ``qi2 reward evaluate`` does: accuracy, ties and calibration of trained rewards on any table of judgements, with intervals over prompts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from qi2.core.errors import QI2Error
from qi2.evaluation.bootstrap import Bootstrap, Figure
from qi2.evaluation.reward_figures import Judged, reward_figures
from qi2.rewards.config import DIMENSIONS, NEEDS, RewardsConfig
from qi2.rewards.data import PromptReader, read_pool
from qi2.rewards.folder import write_rows
from qi2.rewards.measure import compare, judged_rows, score_pool
from qi2.rewards.score import RewardModels
from qi2.rewards.table import judgements, read_table

COLUMNS = ("accuracy", "accuracy_with_ties", "calibration_error")


def evaluate_command(models: RewardModels, config: RewardsConfig, boot: Bootstrap, out: Path | None = None) -> str:
    """Measure every reward that the table has judgements for, write the figures (.json or .csv), and return them as text to print."""
    rows = read_table(config)
    names = [name for name in DIMENSIONS if name in models.models and any(name in row.labels for row in rows)]
    if not names:
        raise QI2Error(f"{config.pairs} judges nothing that the chosen rewards do; leave out --rewards, or map its questions with --dimensions")
    found = {}
    for name in names:
        model = models.models[name]
        config.size = model.config.size
        mine = judgements([row for row in rows if name in row.labels], name, config)
        pool = read_pool(mine, NEEDS[name], PromptReader(models.encoder), f"{name}: judgements")
        judged = Judged.of(judged_rows(model, compare(score_pool(model, pool), pool)))
        found[name] = reward_figures(judged, boot) | {"pairs": _count(len(judged.label)), "ties": _count(int((judged.label == 0).sum()))}
    if out is not None:
        write_figures(found, out)
    return "\n".join(lines(found))


def _count(number: int) -> Figure:
    return Figure(number, number, number, number)


def write_figures(found: Mapping[str, Mapping[str, Figure]], out: Path) -> None:
    """{reward: {figure: {value, low, high, n}}} as .json, or a line per figure as .csv; n are prompts."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix.lower() == ".json":
        out.write_text(json.dumps({name: {key: figure.to_json() for key, figure in figures.items()} for name, figures in found.items()}, indent=1))
        return
    write_rows([{"reward": name, "figure": key, **figure.to_json()} for name, figures in found.items() for key, figure in figures.items()], out)


def lines(found: Mapping[str, Mapping[str, Figure]]) -> Sequence[str]:
    """A line per reward, with 95 % intervals over prompts."""
    head = f"{'reward':<12}{'pairs':>7}{'ties':>7}{'prompts':>9}" + "".join(f"  {name.replace('_', ' '):<23}" for name in COLUMNS)
    return [head, *(_line(name, figures) for name, figures in found.items())]


def _line(name: str, figures: Mapping[str, Figure]) -> str:
    shown = [figures.get(column) for column in COLUMNS]
    cells = "".join(f"  {'-' if f is None else f'{f.value:.3f} [{f.low:.3f}, {f.high:.3f}]':<23}" for f in shown)
    prompts = next((figure.n for figure in shown if figure is not None), 0)
    return f"{name:<12}{figures['pairs'].value:>7.0f}{figures['ties'].value:>7.0f}{prompts:>9}{cells}".rstrip()
