"""A server of chat completions for tests: it replies by a function, and may first fail as often as it is told."""

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

Reply = Callable[[str, list[Image.Image]], str]


class VLMServer(ThreadingHTTPServer):
    """``failures`` are the status codes of its next answers, before it replies; ``asked`` are the texts it got."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply, self.failures, self.asked, self.keys = reply, list[int](), list[str](), list[str | None]()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: VLMServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/chat/completions"
        if self.server.failures:
            self._send(self.server.failures.pop(0), {"error": "not now"})
            return
        *images, text = body["messages"][0]["content"]
        self.server.asked.append(text["text"])
        self.server.keys.append(self.headers["Authorization"])
        pictures = [Image.open(io.BytesIO(base64.b64decode(item["image_url"]["url"].split(",")[1]))) for item in images]
        self._send(200, {"choices": [{"message": {"content": self.server.reply(text["text"], pictures)}}]})

    def _send(self, status: int, values: dict[str, Any]) -> None:
        data = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None: ...


@contextmanager
def serve(reply: Reply) -> Iterator[VLMServer]:
    """A running server on a free port of this machine."""
    server = VLMServer(reply)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
