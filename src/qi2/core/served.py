"""A vision-language model behind a URL, by the chat completions that vLLM, SGLang and others serve. Nothing but the standard library.

The key, where the server wants one, comes from the environment variable ``QI2_VLM_KEY`` and is never written anywhere.
"""

import base64
import io
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any, NamedTuple

from PIL import Image

from qi2.core.errors import QI2Error

KEY = "QI2_VLM_KEY"
TRIES, PAUSE_S = 4, 1.0  # a pause doubles with every try
TIMEOUT_S = 120.0
MOST_TOKENS, MOST_LETTERS = 1024, 20_000  # of a reply
AGAIN = (408, 409, 425, 429)  # and all of 500 and above


class Reply(NamedTuple):
    """``whole`` is false where the server cut the text off at the most tokens."""

    text: str
    whole: bool = True


def is_url(named: str) -> bool:
    """Whether a model is named as a served one."""
    return named.startswith(("http://", "https://"))


class ServedVLM:
    """``url`` is what stands before ``/chat/completions``, e.g. ``http://127.0.0.1:8000/v1``; ``model`` as the server calls it."""

    parallel = 8  # questions at a time

    def __init__(self, url: str, model: str, pause: float = PAUSE_S, timeout: float = TIMEOUT_S) -> None:
        if not model:
            raise QI2Error(f"{url} says no model; write URL#MODEL, e.g. http://127.0.0.1:8000/v1#Qwen3-VL-8B-Instruct")
        self.url, self.model, self.pause, self.timeout = url.rstrip("/"), model, pause, timeout
        self.name, self.identity = model.rstrip("/").split("/")[-1], f"served {model}"

    @classmethod
    def of(cls, named: str) -> "ServedVLM":
        """Of ``URL#MODEL``."""
        url, _, model = named.partition("#")
        return cls(url, model)

    def ask(self, text: str, images: Sequence[Image.Image]) -> str:
        """The reply to a text with images before it, at temperature 0; raises QI2Error where the server gives none."""
        return self.reply(text, images).text

    def reply(self, text: str, images: Sequence[Image.Image], tokens: int = MOST_TOKENS, **sampling: float) -> Reply:
        """Like ``ask``, with so many ``tokens`` at most; ``sampling``: temperature and seed of an answer that is sampled."""
        content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in images]
        message = {"role": "user", "content": [*content, {"type": "text", "text": text}]}
        reply = self._post({"model": self.model, "messages": [message], "temperature": 0, "max_tokens": tokens, **sampling})
        try:
            choice = reply["choices"][0]
            return Reply(str(choice["message"]["content"] or "")[:MOST_LETTERS], choice.get("finish_reason") != "length")
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise QI2Error(f"{self.url} answered without choices: {json.dumps(reply)[:200]}; it is no server of chat completions") from error

    def _post(self, body: dict[str, Any]) -> Any:
        for attempt in range(1, TRIES + 1):
            try:
                with urllib.request.urlopen(self._request(body), timeout=self.timeout) as response:
                    return json.loads(response.read())
            except urllib.error.HTTPError as error:
                reason = f"HTTP {error.code}: {error.read()[:200].decode(errors='replace')}"
                if error.code < 500 and error.code not in AGAIN:
                    raise QI2Error(f"{self.url} refused the request ({reason}); check the URL, the model's name and {KEY}") from error
            except (OSError, ValueError) as error:  # no connection, a time-out, or half a reply
                reason = str(error)
            if attempt < TRIES:
                time.sleep(self.pause * 2 ** (attempt - 1))
        raise QI2Error(f"{self.url} did not answer in {TRIES} tries ({reason}); start the server again and give the same command: finished answers are kept")

    def _request(self, body: dict[str, Any]) -> urllib.request.Request:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {os.environ[KEY]}"} if os.environ.get(KEY) else {})
        return urllib.request.Request(f"{self.url}/chat/completions", json.dumps(body).encode(), headers)


def _data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
