"""Who may come in to a page that the project serves, and how a visitor is known again. Knows no server.

Anybody who reaches a loopback page may enter. A page that others reach (another ``host``, or a public ``origin`` behind a proxy) lets in who brings the
invitation; later visits are known by their cookie. A ticket is signed with the visitor: it cannot be used by another one, nor made up.
"""

import hashlib
import hmac
import ipaddress
import secrets
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from qi2.core.errors import QI2Error


class Refused(QI2Error):
    """A request that is not granted, with HTTP's status for it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Door:
    """``invitation`` is empty where everybody may come in; ``origin`` is the public address behind a proxy, or empty."""

    origin: str
    invitation: str

    def admits_host(self, host: str) -> bool:
        """Whether the page was asked for under a name of its own; another site's name that leads here (DNS rebinding) is not.

        With an invitation any name does: another name has no cookie of ours, and does not know the invitation.
        """
        if self.origin:
            return host == urlsplit(self.origin).netloc
        try:
            return bool(self.invitation) or loopback(urlsplit(f"//{host}").hostname or "")
        except ValueError:  # no address at all
            return False

    def own(self, origin: str, host: str) -> bool:
        """Whether a request comes from a page of this server."""
        return origin == (self.origin or f"http://{host}")

    def invited(self, word: Any) -> bool:
        """Whether a newcomer may enter."""
        return not self.invitation or same(word, self.invitation)

    @property
    def secure(self) -> bool:
        """Whether visitors come over TLS."""
        return self.origin.startswith("https://")


class Signer:
    """Signs cookies and tickets with a key that stays with the data, so that both are good after a restart."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def sign(self, purpose: str, *parts: str) -> str:
        """32 hex digits that only the holder of the key can make."""
        return hmac.new(self._key, "\0".join((purpose, *parts)).encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]

    def enter(self) -> str:
        """A new visitor's cookie."""
        visitor = secrets.token_hex(8)
        return f"{visitor}.{self.sign('voter', visitor)}"

    def visitor(self, cookie: str) -> str | None:
        """The visitor behind a cookie, or None where it is none of ours."""
        visitor, _, signature = cookie.partition(".")
        return visitor if same(signature, self.sign("voter", visitor)) else None


def same(given: Any, secret: str) -> bool:
    """Whether somebody knows a secret, in a time that tells nothing about it."""
    return isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "surrogatepass"), secret.encode())


def loopback(host: str) -> bool:
    """Whether a name or address is this very machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def seen_from_outside() -> str:
    """This machine's address on the way out, under which a phone on the same network finds it. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1: nobody's
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()
