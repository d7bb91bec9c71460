"""A bucket behind real HTTP: listed, fetched, continued where it was cut off, and never written outside the cache."""

import re
import threading
from collections.abc import Iterator
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlparse
from xml.sax.saxutils import escape

import pytest

from qi2.core.errors import QI2Error
from qi2.data.sources import fingerprint, read_source, s3
from tests.data.sources.test_readers import BLUE, RED


class Bucket:
    """What the server holds and has been asked for; ``cut``: bytes after which it drops the next download's connection."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[str, int]] = []
        self.cut = 0

    def listing(self, prefix: str) -> bytes:
        found = {key: data for key, data in sorted(self.objects.items()) if key.startswith(prefix)}
        entries = "".join(
            f'<Contents><Key>{escape(key)}</Key><Size>{len(data)}</Size><ETag>"{md5(data).hexdigest()}"</ETag></Contents>' for key, data in found.items()
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    held = Bucket()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place = urlparse(self.path)
            key = unquote(place.path).removeprefix("/mine").lstrip("/")
            if not key:
                self._answer(200, held.listing(parse_qs(place.query).get("prefix", [""])[0]))
                return
            start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"]).group(1))  # type: ignore[union-attr]
            held.asked.append((key, start))
            self._answer(206, held.objects[key][start:], held.cut)
            held.cut = 0

        def _answer(self, status: int, body: bytes, cut: int = 0) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:cut] if cut else body)
            self.close_connection = True

        def log_message(self, *values: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    given = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_address[1]}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    for name, value in {**given, "AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    yield held
    server.shutdown()
    server.server_close()


def test_a_prefix_is_read_as_a_folder_and_fetched_once(bucket: Bucket, tmp_path: Path) -> None:
    bucket.objects = {"cats/a.png": RED, "cats/a.txt": b"a red picture", "cats/b.png": BLUE, "cats2/c.png": BLUE, "cats/": b""}
    rows = list(read_source("s3://mine/cats", tmp_path))
    assert [(row.data, row.captions) for row in rows] == [(RED, ("a red picture",)), (BLUE, ())]
    asked = len(bucket.asked)
    assert asked == 3
    bucket.objects["cats/b.png"] = RED
    assert [row.data for row in read_source("s3://mine/cats", tmp_path)] == [RED, RED]
    assert bucket.asked[asked:] == [("cats/b.png", 0)]
    del bucket.objects["cats/b.png"]
    assert len(list(read_source("s3://mine/cats", tmp_path))) == 1


def test_a_download_that_is_cut_off_goes_on_where_it_stopped(bucket: Bucket, tmp_path: Path) -> None:
    bucket.objects, bucket.cut = {"own.bin": bytes(range(256)) * 40, "x": b""}, 3000
    assert s3.fetch("s3://mine/own.bin", tmp_path).read_bytes() == bucket.objects["own.bin"]
    (key, first), (again, second) = bucket.asked
    assert (key, first, again) == ("own.bin", 0, "own.bin")
    assert 0 < second <= 3000
    assert not list(tmp_path.rglob("*.part"))


def test_a_key_that_leads_out_of_the_cache_is_refused(bucket: Bucket, tmp_path: Path) -> None:
    bucket.objects = {"cats/../../../up.png": RED}
    with pytest.raises(QI2Error, match="outside the cache"):
        list(read_source("s3://mine/cats", tmp_path / "cache"))
    assert not (tmp_path / "up.png").exists()


def test_the_fingerprint_follows_the_objects(bucket: Bucket) -> None:
    bucket.objects = {"cats/a.png": RED}
    before = fingerprint("s3://mine/cats")
    assert before == fingerprint("s3://mine/cats")
    bucket.objects["cats/a.png"] = BLUE
    assert fingerprint("s3://mine/cats") != before


def test_an_empty_prefix_and_a_bucket_out_of_reach_are_errors_that_say_so(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(QI2Error, match="s3://mine/dogs holds no object"):
        read_source("s3://mine/dogs", tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(QI2Error, match="cannot be listed"):
        read_source("s3://mine/dogs", tmp_path)
