"""Servers of the flywheel in this process and as a user starts them, and a visitor without a screen."""

import http.client
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from qi2.core.rng import numpy_rng
from qi2.data.world.captions import captions
from qi2.data.world.edits import sample_edit
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.flywheel.review.candidate import Candidate
from qi2.flywheel.review.queue import ReviewQueue


@contextmanager
def running(server: Any) -> Iterator[Any]:
    """A server on a thread of this process."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Started:
    """A command that serves, in a process of its own; ``port`` is read from what it prints."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", "qi2.cli", "flywheel", *command], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if match := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                self.port = int(match[1])
                return
        raise AssertionError(f"the server did not start: {self.said}")

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(20)


class Visitor:
    """Keeps its cookie and its connection."""

    def __init__(self, port: int) -> None:
        self.host, self.cookie = f"127.0.0.1:{port}", ""
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask(self, path: str, body: Any = None, **headers: str | None) -> tuple[int, Any, dict[str, str]]:
        """Status, content (JSON where it is some) and headers; header names are given with underscores, None leaves one out."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        given: dict[str, str | None] = {"Cookie": self.cookie or None, "Host": self.host}
        if body is not None:
            given |= {"Origin": f"http://{self.host}", "Content-Type": "application/json", "Content-Length": str(len(content or b""))}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.putrequest("GET" if body is None else "POST", path, skip_host=True, skip_accept_encoding=True)
        for name, value in given.items():
            if value is not None:
                self.connection.putheader(name, value)
        self.connection.endheaders(content)
        answer = self.connection.getresponse()
        data, told = answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        if "set-cookie" in told:
            self.cookie = told["set-cookie"].partition(";")[0]
        return answer.status, json.loads(data) if told["content-type"] == "application/json" else data, told

    def enter(self, invitation: str = "") -> "Visitor":
        assert self.ask("/visitor", {"invitation": invitation})[0] == 200
        return self


def candidates(queue: ReviewQueue, n: int, prompt: str = "") -> list[Candidate]:
    """``n`` candidates of the world, every third an edit, each with a neighbour that has a picture."""
    found = []
    for k in range(n):
        rng = numpy_rng(0, "review/test", k)
        scene = sample_scene(rng, "two")
        near = {"id": f"row-{k}", "similarity": 0.9 - k / 100, "caption": "a near one", "picture": queue.keep(render(scene, 64))}
        origin = {"signal": f"{k:064x}", "how": "rendered from the world", "neighbours": [near]}
        if k % 3 == 2:
            edit = sample_edit(rng, "recolor")
            source, target = (queue.keep(render(one, 64)) for one in (edit.references[0], edit.target))
            found.append(Candidate(f"c{k}", "ti2i", prompt or edit.instruction, target, (source,), origin, edit.to_json()))
        else:
            text = prompt or captions(scene, rng, 1)[0]
            found.append(Candidate(f"c{k}", "t2i", text, queue.keep(render(scene, 64)), (), origin, scene.to_json()))
    return found


def filled(folder: Path, n: int = 5, prompt: str = "") -> ReviewQueue:
    """A queue with candidates of one round."""
    queue = ReviewQueue(folder)
    assert queue.put(candidates(queue, n, prompt), "tiny/001") == n
    return queue


def blank() -> Image.Image:
    return Image.new("RGB", (32, 32), (10, 120, 30))
