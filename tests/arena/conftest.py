"""A small finished evaluation of three made-up models, whose pictures are drawn by the world: right, half right and wrong."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from qi2.core.publish import publish
from qi2.core.rng import numpy_rng
from qi2.data.world.degrade import degrade
from qi2.data.world.render import render
from qi2.evaluation.config import EvaluateConfig
from qi2.evaluation.suites.world import EditItem, T2IItem, edit_suite, t2i_suite

CONFIG = EvaluateConfig(size=64, prompts_per_kind=2, edits_per_kind=1, shown=6)
MODELS = {"modelgood": 1.0, "modelfair": 0.5, "modelbad": 0.0}  # share of right pictures


@pytest.fixture(scope="session")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished evaluation: six prompts and six edits, each drawn by three models."""
    return write_evaluation(tmp_path_factory.mktemp("arena") / "evaluate")


def write_evaluation(folder: Path, models: dict[str, float] = MODELS, config: EvaluateConfig = CONFIG) -> Path:
    """Publish an evaluation whose files bear the models' names in their metadata."""
    suites = {"t2i": t2i_suite(config), "edit": edit_suite(config)}
    with publish(folder) as staging:
        for suite, items in suites.items():
            for k, item in enumerate(items[: config.shown]):
                for number, (model, share) in enumerate(models.items()):
                    _save(_picture(item, number, k / min(config.shown, len(items)) < share), staging / "samples" / model / f"{suite}-{k}.png", model)
                for j, image in enumerate(item.references(64) if suite == "edit" else []):
                    _save(image, staging / "samples" / "source" / f"edit-{k}-{j}.png", "source")
        facts = {suite: {"items": [_facts(item) for item in items], "results": {}} for suite, items in suites.items()}
        results = {"suite": asdict(config), "shown": config.shown, "models": {name: {} for name in models}, **facts}
        (staging / "results.json").write_text(json.dumps(results))
    return folder


def _picture(item: T2IItem | EditItem, number: int, right: bool) -> Image.Image:
    """Right or wrong, with one pixel that is the model's own."""
    rng = numpy_rng(0, f"arena/test/{item.id}", number)
    if isinstance(item, EditItem):
        image = item.target(64) if right else degrade(item.edit, rng, "instruction", 64)[1]
    else:
        image = render(item.scene, 64) if right else degrade(item.scene, rng, "alignment", 64)[1]
    image = image.convert("RGB")
    image.putpixel((63, 63), tuple(max(0, value - number) for value in image.getpixel((63, 63))))
    return image


def _save(image: Image.Image, path: Path, model: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = PngImagePlugin.PngInfo()
    text.add_text("Software", model)
    image.save(path, pnginfo=text)


def _facts(item: Any) -> dict[str, Any]:
    references = {"references": len(item.edit.references)} if isinstance(item, EditItem) else {}
    return {"id": item.id, "kind": item.kind, "prompt": item.prompt, **references}


@contextmanager
def served(sources: list[str], votes: Path, **options: Any) -> Iterator[Any]:
    """A server in this process, on a free port of loopback."""
    import threading

    from qi2.arena.booth import Booth
    from qi2.arena.entrants import load
    from qi2.arena.votes import Votes
    from qi2.arena.web import ArenaServer

    store = Votes(votes)
    booth = Booth(load(sources), store, options.pop("open_after", 3))
    server = ArenaServer(booth, **options)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        store.close()


class Process:
    """The command, as a user starts it."""

    started: list["subprocess.Popen[str]"] = []

    def __init__(self, evaluation: Path, votes: Path, port: int = 0) -> None:
        command = [sys.executable, "-m", "qi2.cli", "arena", "serve", str(evaluation), "--votes", str(votes), "--port", str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        Process.started.append(self.process)
        assert self.process.stdout is not None
        found = next((match for line in self.process.stdout if (match := re.search(r"http://127\.0\.0\.1:(\d+)/", line))), None)
        assert found, "the server did not start"
        self.port = int(found[1])

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(20)


@pytest.fixture(autouse=True)
def no_server_stays() -> Iterator[None]:
    """End what a failed test has left running."""
    yield
    for process in Process.started:
        if process.poll() is None:
            process.kill()
    Process.started.clear()
