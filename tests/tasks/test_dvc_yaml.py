"""dvc.yaml is the one DAG: it matches the stage functions, and a changed file re-runs exactly the stages that use it."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tasks.import_closure import ROOT, closure

PROMISED = ["ingest", "vlm", "curate", "vae", "pretrain", "continual", "sft", "rewards", "rlhf", "distill", "evaluate"]
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
NAMES = [name for name in STAGES if name != "config"]
SAYS_NOTHING = {"errors.py", "progress.py", "publish.py", "ranks.py", "reporter.py", "timing.py"}


def _body(stage: str) -> dict[str, Any]:
    return dict(json.loads(json.dumps(STAGES[stage]["do"]).replace("${item}", "tiny")))


def _matters(path: Path) -> bool:
    """Config dataclasses reach a stage as params; core's logging and storage do not change what is computed."""
    library = path.relative_to(ROOT / "src" / "qi2")
    silent = library.parts[0] == "core" and path.name in SAYS_NOTHING
    return not (path.name.endswith("config.py") or path.name == "__init__.py" or silent)


def _code(stage: str) -> set[Path]:
    return {ROOT / dep for dep in _body(stage)["deps"] if dep.startswith("src/")}


def test_every_promised_stage_exists_for_every_scale() -> None:
    assert set(PROMISED) <= set(NAMES)
    assert all(entry["foreach"] == ["smoke", "tiny", "small", "report"] for entry in STAGES.values())


@pytest.mark.parametrize("stage", NAMES)
def test_stage_is_the_function_in_tasks(stage: str) -> None:
    tree = ast.parse((ROOT / "tasks" / f"{stage}.py").read_text())
    (out,) = [node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "OUT"]
    body = _body(stage)
    assert body["outs"] == [f"runs/tiny/{ast.literal_eval(out)}"]
    assert body["cmd"] == f"python -m tasks {stage} --scale tiny"
    assert f"tasks/{stage}.py" in body["deps"]
    assert any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in tree.body)


@pytest.mark.parametrize("stage", NAMES)
def test_code_that_a_stage_imports_is_among_its_dependencies(stage: str) -> None:
    covered = _code(stage)
    used = {path for path in closure(ROOT / "tasks" / f"{stage}.py") if _matters(path)}
    missing = [str(path.relative_to(ROOT)) for path in used if not covered & {path, *path.parents}]
    assert not missing, f"add to deps of {stage} in dvc.yaml: {sorted(missing)}"


@pytest.mark.parametrize("stage", NAMES)
def test_no_stage_depends_on_code_that_it_does_not_import(stage: str) -> None:
    used = closure(ROOT / "tasks" / f"{stage}.py")
    idle = [str(dep.relative_to(ROOT)) for dep in _code(stage) if not any(dep in (path, *path.parents) for path in used)]
    assert not idle, f"remove from deps of {stage} in dvc.yaml: {sorted(idle)}"


def test_inputs_are_outputs_of_other_stages() -> None:
    outs = {out for stage in NAMES for out in _body(stage)["outs"]}
    for stage in NAMES:
        assert {dep for dep in _body(stage)["deps"] if dep.startswith("runs/")} <= outs - set(_body(stage)["outs"])


def test_params_are_sections_of_the_resolved_configuration() -> None:
    from tasks import config

    sections = set(config.resolve("tiny"))
    for stage in NAMES:
        (path, keys), *_ = _body(stage)["params"][0].items()
        assert path == "conf/resolved/tiny.yaml"
        assert set(keys) <= sections


def test_mlflow_folder_does_not_shadow_the_package() -> None:
    assert not (ROOT / "mlflow" / "__init__.py").exists()
