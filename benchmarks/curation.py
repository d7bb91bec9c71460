"""CPU time of all filters that need no model, against one decode of the same files: ``python -m benchmarks.curation``.

JPEG files of 512 to 1024 px, cut from the photographs that scikit-image ships; one thread; per file the best of ``--repeats``.
``decode_ratio``: bytes to all score columns, relative to Pillow's full decode to RGB. With ``--cleanvision PYTHON`` and
``--datajuicer PYTHON``, interpreters in whose environments those are installed, ``vs_cleanvision`` and ``vs_datajuicer`` say how many
times more CPU time theirs take per image: cleanvision with its default issues, data-juicer with its shape, aspect ratio, size and text
length filters and its image deduplicator. ``parts``: each filter alone, relative to the decode (what several share is counted in each).
"""

import argparse
import hashlib
import io
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qi2.data.filters.broken import decode
from qi2.data.filters.registry import FILTERS, measure
from qi2.data.photos import PHOTOS, load

CLEANVISION = """
import sys, time
from pathlib import Path
from cleanvision import Imagelab
begin = time.process_time()
Imagelab(data_path=sys.argv[1]).find_issues(n_jobs=1, verbose=False)
Path(sys.argv[2], "cpu_s").write_text(str(time.process_time() - begin))
"""
DATAJUICER = """
import json, resource, sys
from pathlib import Path
from data_juicer.config import init_configs
from data_juicer.core import DefaultExecutor
folder, out = Path(sys.argv[1]), Path(sys.argv[2])
rows = out / "rows.jsonl"
text = "<__dj__image> a photograph of something <|__dj__eoc|>"
rows.write_text("".join(json.dumps({"text": text, "images": [str(path)]}) + chr(10) for path in sorted(folder.glob("*.jpg"))))
process = ["image_shape_filter", "image_aspect_ratio_filter", "image_size_filter", "text_length_filter", "image_deduplicator"]
recipe = out / "recipe.json"
settings = {"dataset_path": str(rows), "export_path": str(out / "kept.jsonl"), "np": 1, "use_cache": False, "open_tracer": False}
recipe.write_text(json.dumps({**settings, "work_dir": str(out), "process": [{name: {}} for name in process]}))
DefaultExecutor(init_configs(["--config", str(recipe)])).run()
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
(out / "cpu_s").write_text(str(sum(usage.ru_utime + usage.ru_stime for usage in used)))
"""


def files(n: int, seed: int = 0) -> list[bytes]:
    """JPEG files of 512 to 1024 px a side and quality 40 to 95."""
    draw = np.random.default_rng(seed)
    photos = [load(photo) for photo in PHOTOS]
    made = []
    for index in range(n):
        photo = photos[index % len(photos)]
        share = draw.uniform(0.6, 1.0)
        side = (int(photo.width * share), int(photo.height * share))
        left, top = (int(draw.integers(0, whole - part + 1)) for whole, part in zip(photo.size, side, strict=True))
        width, height = (int(value) for value in draw.integers(512, 1025, 2))
        picture = photo.crop((left, top, left + side[0], top + side[1])).resize((width, height), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=int(draw.integers(40, 96)))
        made.append(buffer.getvalue())
    return made


def cpu_s(work: Callable[[bytes], Any], made: list[bytes], repeats: int) -> float:
    """Seconds for all files, each the best of its repeats."""
    best = np.full(len(made), np.inf)
    for _ in range(repeats):
        for index, data in enumerate(made):
            begin = time.process_time()
            work(data)
            best[index] = min(best[index], time.process_time() - begin)
    return float(best.sum())


def peer(script: str, python: str, made: list[bytes]) -> float:
    """CPU seconds that another tool takes for these files beyond those for the first of them, which is its start."""
    return (_peer(script, python, made) - _peer(script, python, made[:1])) * len(made) / (len(made) - 1)


def _peer(script: str, python: str, made: list[bytes]) -> float:
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name) / "images", Path(name) / "out"
        for place in (folder, out):
            place.mkdir()
        for index, data in enumerate(made):
            (folder / f"{index:05d}.jpg").write_bytes(data)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run([python, "-c", script, str(folder), str(out)], env=environment, capture_output=True, text=True, cwd=name)
        if done.returncode:
            raise SystemExit(f"{python} failed:\n{done.stderr[-2000:]}")
        return float((out / "cpu_s").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curation", description=__doc__)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cleanvision", metavar="PYTHON")
    parser.add_argument("--datajuicer", metavar="PYTHON")
    given = parser.parse_args()
    made = files(given.files)
    plain = cpu_s(lambda data: Image.open(io.BytesIO(data)).convert("RGB"), made, given.repeats)
    digests = {data: hashlib.sha256(data).hexdigest() for data in made}  # as the sidecar has them
    ours = cpu_s(lambda data: measure(decode(data, digests[data])), made, given.repeats)
    values: dict[str, Any] = {"decode_ratio": ours / plain, "ms_per_image": 1000 * ours / len(made), "mean_kb": sum(map(len, made)) / len(made) / 1000}
    if given.cleanvision:
        values["vs_cleanvision"] = peer(CLEANVISION, given.cleanvision, made) / ours
    if given.datajuicer:
        values["vs_datajuicer"] = peer(DATAJUICER, given.datajuicer, made) / ours
    alone = cpu_s(decode, made, given.repeats)
    values["parts"] = {"decode": alone / plain}
    for item in FILTERS:
        if item.measure is not None:
            values["parts"][item.name] = (cpu_s(lambda data, item=item: item.measure(decode(data)), made, given.repeats) - alone) / plain  # type: ignore[misc]
    rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in values.items()}
    rounded["parts"] = {name: round(value, 3) for name, value in values["parts"].items()}
    print(json.dumps(rounded))


if __name__ == "__main__":
    main()
