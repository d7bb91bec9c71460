"""Whatever lies in a user's folder: nothing crashes or hangs, nothing disappears, and everything rejected has a reason."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.data import hostile

FILES = 2000
MEMORY = 2 << 30  # bytes that the process may hold at once, beyond which it would be killed
CURATE = """
import json, resource, sys
from pathlib import Path
from qi2.core.reporter import NullReporter
from qi2.data.config import DataConfig
from qi2.data.curate import curate
from qi2.data.ingest import ingest
from tests.data.conftest import Recipe, lenient_config
from tests.data.test_ingest import Config
source, standins, out = map(Path, sys.argv[1:])
ingest(Config(data=DataConfig(source=str(source))), out / "raw", NullReporter())
curate(Recipe(curate=lenient_config()), out / "raw", standins, out / "curated", NullReporter())
print(json.dumps({"peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
"""


@pytest.fixture(scope="module")
def curated(standins: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int], int]:
    """A hostile folder, curated in a process of its own: where, how many files of each way, and its peak memory."""
    folder = tmp_path_factory.mktemp("hostile")
    counts = hostile.write(folder / "files", FILES)
    (folder / "files" / "loop.png").symlink_to(folder / "files" / "loop.png")
    (folder / "files" / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "files" / "up").symlink_to(folder)
    done = subprocess.run(
        [sys.executable, "-c", CURATE, str(folder / "files"), str(standins), str(folder)], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, counts, json.loads(done.stdout.splitlines()[-1])["peak_bytes"]


def test_in_is_kept_plus_rejected_and_every_rejection_has_a_reason(curated: tuple[Path, dict[str, int], int]) -> None:
    folder, counts, _ = curated
    scores = pd.read_parquet(folder / "curated" / "scores.parquet")
    train = scores[scores["split"] == "train"]
    (stage, *_) = json.loads((folder / "curated" / "funnel.json").read_text()).values()
    assert sum(counts.values()) == FILES == len(scores)
    assert stage["in"] == len(train) == stage["kept"] + sum(stage["rejected"].values())
    assert set(train["reason_stage1"].dropna()) == set(stage["rejected"])
    assert scores.loc[scores["reason_stage1"] == "broken", "broken"].str.len().min() > 5


def test_what_can_be_decoded_is_and_what_cannot_is_called_broken(curated: tuple[Path, dict[str, int], int]) -> None:
    folder, _, _ = curated
    scores = pd.read_parquet(folder / "curated" / "scores.parquet")
    files = sorted(path for path in (folder / "files").iterdir() if path.is_file() and path.suffix != ".txt")
    way = pd.Series([path.stem.split("-", 1)[1] for path in files], index=[f"user-{index:06d}" for index in range(len(files))])
    broken = scores.set_index("id")["broken"].notna().groupby(way).mean()
    assert broken[sorted(hostile.SOUND)].to_dict() == dict.fromkeys(sorted(hostile.SOUND), 0.0)
    always = ["bomb", "empty", "huge_header", "not_an_image"]
    assert broken[always].to_dict() == dict.fromkeys(always, 1.0)
    assert broken["truncated"] > 0.8


def test_memory_stays_bounded(curated: tuple[Path, dict[str, int], int]) -> None:
    assert curated[2] < MEMORY
