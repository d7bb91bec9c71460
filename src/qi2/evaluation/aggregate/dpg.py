"""DPG-Bench (Hu et al., 2024, with the graph of Davidsonian Scene Graph): yes-or-no questions that hang on each other.

A row has ``questions``: [{"id", "question", "parents": [ids], "kind"?}, ...]. The answer is {"answers": {id: true or false}}. A question whose parent is
"no" counts as "no", and so do those that hang on it; a picture's score is the share of its questions, the prompt's the mean over pictures, the whole
the mean over prompts. By kind (entity, attribute, relation ...) the answers count as given, before that rule, as in the published script.

The published script passes over the first question of its table and reads only the last picture for the kinds; neither is done here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from qi2.evaluation.aggregate.base import Aggregator, Answer, Numbers, Options, Table
from qi2.evaluation.suites.row import Row


def measure(answer: Answer, row: Row, options: Options) -> Numbers:
    """``score``: share of questions that hold with all they hang on; ``asked/KIND`` and ``yes/KIND``: counts."""
    given = {str(name): bool(value) for name, value in answer["answers"].items()}
    holds = propagate(given, row.truth["questions"])
    numbers = {"score": sum(holds.values()) / len(holds)}
    for item in row.truth["questions"]:
        kind = item.get("kind", "all")
        numbers[f"asked/{kind}"] = numbers.get(f"asked/{kind}", 0) + 1
        numbers[f"yes/{kind}"] = numbers.get(f"yes/{kind}", 0) + given[str(item["id"])]
    return numbers


def propagate(given: Mapping[str, bool], questions: Sequence[Mapping[str, Any]]) -> dict[str, bool]:
    """{id: whether it holds and everything above it does}."""
    parents = {str(item["id"]): [str(one) for one in item.get("parents", ())] for item in questions}
    holds: dict[str, bool] = {}

    def hold(name: str) -> bool:
        if name not in holds:
            holds[name] = given[name] and all(hold(one) for one in parents[name])
        return holds[name]

    return {name: hold(name) for name in parents}


def combine(table: Table, options: Options) -> Numbers:
    """``score``: mean over prompts; ``by_kind/KIND``: share of all questions of that kind that were answered yes."""
    kinds = [name.removeprefix("asked/") for name in table.columns if name.startswith("asked/")]
    return {"score": table.mean("score")} | {f"by_kind/{kind}": table.total(f"yes/{kind}") / table.total(f"asked/{kind}") for kind in kinds}


def check(row: Row) -> str:
    """Questions with id and text, parents that exist, and no circle."""
    items = row.truth["questions"]
    if wrong := next((item for item in items if not isinstance(item, dict) or not {"id", "question"} <= item.keys()), None):
        return f"{wrong!r} is no question; it has id and question"
    parents = {str(item["id"]): {str(one) for one in item.get("parents", ())} for item in items}
    if unknown := set().union(*parents.values()) - parents.keys():
        return f"parent {min(unknown)} is no question of this row"
    while free := [name for name, above in parents.items() if not above & parents.keys()]:
        parents = {name: above for name, above in parents.items() if name not in free}
    return f"questions {', '.join(sorted(parents))} hang on each other in a circle" if parents else ""


AGGREGATOR = Aggregator("dpg", "vqa", ("questions",), measure, combine, check)
