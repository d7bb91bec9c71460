"""Objects of an S3 bucket (``s3://BUCKET/PREFIX``), brought into a local cache and read from there as any folder or file.

Credentials, region and ``AWS_ENDPOINT_URL`` come from the environment, as boto3 finds them. A download that was cut off goes on
where it stopped; an object that changed (another ETag or size) is fetched anew.
"""

import glob
import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

from qi2.core.errors import QI2Error
from qi2.core.progress import Progress

SCHEME = "s3://"
ATTEMPTS = 5
CHUNK = 1 << 20  # bytes
STATES = "objects.json"  # {file: [ETag, size]} of what the cache holds completely


def objects(address: str, client: Any = None) -> list[dict[str, Any]]:
    """Key, Size and ETag of every object below the address. Raises QI2Error when it cannot be listed or holds none."""
    from botocore.exceptions import BotoCoreError, ClientError

    place = urlparse(address)
    prefix = place.path.lstrip("/")
    try:
        pages = (client or _client()).get_paginator("list_objects_v2").paginate(Bucket=place.netloc, Prefix=prefix)
        found = [entry for page in pages for entry in page.get("Contents", []) if _below(entry["Key"], prefix)]
    except (BotoCoreError, ClientError) as error:
        raise QI2Error(f"data.source={address} cannot be listed: {error}; check the address, AWS_ENDPOINT_URL and the credentials") from error
    if not found:
        raise QI2Error(f"data.source={address} holds no object; give s3://BUCKET/PREFIX of a folder, or the address of one file")
    return found


def fetch(address: str, cache: Path, client: Any = None) -> Path:
    """The local copy of the address below ``cache``: a folder, or a file where the address is that of one object."""
    client = client or _client()
    place, found = urlparse(address), objects(address, client)
    prefix = place.path.lstrip("/")
    alone = len(found) == 1 and found[0]["Key"] == prefix
    named = {PurePosixPath(entry["Key"]).name if alone else entry["Key"][len(prefix) :].lstrip("/"): entry for entry in found}
    folder = cache / hashlib.sha256(address.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    states = json.loads((folder / STATES).read_text()) if (folder / STATES).exists() else {}
    with Progress("ingest: fetch", len(named), "file") as progress:
        for name, entry in named.items():
            state = [entry["ETag"], entry["Size"]]
            if states.get(name) != state:
                _download(client, place.netloc, entry, _inside(folder, name, address))
                states[name] = state
                _write(folder / STATES, json.dumps(states))
            progress.update()
    for gone in set(states) - set(named):
        (folder / gone).unlink(missing_ok=True)
        del states[gone]
    _write(folder / STATES, json.dumps(states))
    return folder / next(iter(named)) if alone else folder


def _below(key: str, prefix: str) -> bool:
    """Whether an object lies in the folder ``prefix`` or is the file; not ``cats2/a.png`` for ``cats``, and no folder mark."""
    rest = key[len(prefix) :]
    return not key.endswith("/") and (not prefix or not rest or prefix.endswith("/") or rest.startswith("/"))


def _inside(folder: Path, name: str, address: str) -> Path:
    """The path of an object in the cache; raises QI2Error for a key that would lead out of it."""
    path = folder / name
    if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
        raise QI2Error(f"data.source={address}: the object {name!r} would be written outside the cache; rename it")
    return path


def _download(client: Any, bucket: str, entry: dict[str, Any], path: Path) -> None:
    """Into ``NAME.ETAG.part``, which a later attempt or run continues, then one rename."""
    from botocore.exceptions import BotoCoreError, ClientError

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{entry['ETag'].strip(chr(34))}.part")
    for attempt in range(ATTEMPTS):
        try:
            _continue(client, bucket, entry, part)
            break
        except (BotoCoreError, ClientError) as error:
            if attempt == ATTEMPTS - 1:
                raise QI2Error(f"s3://{bucket}/{entry['Key']} cannot be fetched: {error}; what came so far is kept, run it again") from error
    if part.stat().st_size != entry["Size"]:
        part.unlink()
        raise QI2Error(f"s3://{bucket}/{entry['Key']}: {entry['Size']} bytes were announced and others came; run it again")
    part.replace(path)
    for stale in path.parent.glob(f"{glob.escape(path.name)}.*.part"):  # of former versions
        stale.unlink()


def _continue(client: Any, bucket: str, entry: dict[str, Any], part: Path) -> None:
    part.touch()
    done = part.stat().st_size
    if done >= entry["Size"]:
        return
    body = client.get_object(Bucket=bucket, Key=entry["Key"], Range=f"bytes={done}-", IfMatch=entry["ETag"])["Body"]
    with open(part, "ab") as handle:
        for chunk in body.iter_chunks(CHUNK):
            handle.write(chunk)


def _write(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def _client() -> Any:
    import boto3

    return boto3.client("s3")
