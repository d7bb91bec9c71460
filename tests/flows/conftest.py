"""A copy of the project whose stages take no time: the same dvc.yaml and flows, other functions behind the stage names."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks import settings

ROOT = Path(__file__).resolve().parents[2]
QUICK = '''"""Writes the outputs that dvc.yaml names, from nothing but the inputs' and parameters' text."""
import json, sys, yaml
from pathlib import Path
stage, scale = sys.argv[1], sys.argv[3]
body = json.loads(json.dumps(yaml.safe_load(Path("dvc.yaml").read_text())["stages"][stage]["do"]).replace("${item}", scale))
(path, keys), *_ = body["params"][0].items()
values = yaml.safe_load(Path(path).read_text())
inputs = [(Path(dep) / "model.txt").read_text() for dep in body["deps"] if dep.startswith("runs/")]
for out in body["outs"]:
    Path(out).mkdir(parents=True)
    (Path(out) / "model.txt").write_text(json.dumps([stage, {key: values[key] for key in keys}, inputs], sort_keys=True))
for kind in ("metrics", "plots"):
    for entry in body[kind]:
        path = Path(next(iter(entry)))
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}" if kind == "metrics" else "step,name,value\\n")
'''


class Project:
    """The copy, and commands in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        for name in ("flows", "tasks", "src", "conf", "mlflow"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "resolved", "local"))
        for name in (".dvc/config", ".dvcignore", "dvc.yaml", "pyproject.toml"):
            (root / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(ROOT / name, root / name)
        (root / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the copy, where its own flows, tasks and library come first."""
        folders = os.pathsep.join([str(self.root), str(self.root / "src")])
        python = str(Path(sys.executable).parent)
        given = {"PYTHONPATH": folders, "PATH": f"{python}{os.pathsep}{os.environ['PATH']}", **settings.TELEMETRY_OFF, **environment}
        everything = {**os.environ, **given}
        done = subprocess.run([sys.executable, *command], cwd=self.root, env=everything, capture_output=True, text=True, check=False)
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done

    def override(self, scale: str, text: str) -> None:
        """Give a scale local settings."""
        (self.root / "conf" / "local").mkdir(exist_ok=True)
        (self.root / "conf" / "local" / f"{scale}.yaml").write_text(text)
        self.run("-m", "tasks", "config", "--scale", scale)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy in which every stage but ``config`` is quick."""
    made = Project(tmp_path_factory.mktemp("project") / "qi2")
    (made.root / "quick.py").write_text(QUICK)
    text = (made.root / "dvc.yaml").read_text().replace("python -m tasks", "python quick.py")
    (made.root / "dvc.yaml").write_text(text.replace("python quick.py config", "python -m tasks config"))
    return made
