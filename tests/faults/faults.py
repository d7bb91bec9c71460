"""A child process that meets a fault at its n-th system call that touches the disk: killed before it, or refused by a full disk."""

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOUCHING = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "os.listdir", "test.fsync"}
HARMED, SAID, NOBODY = 7, 8, 65534


def killed(nth: int) -> Callable[[], None]:
    """SIGKILL before the n-th call (from 1)."""
    return _at(nth, lambda: os.kill(os.getpid(), signal.SIGKILL))


def full_disk(nth: int) -> Callable[[], None]:
    """No space left from the n-th call (from 1) on that needs some; what only removes goes on working."""

    def refuse() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return _at(nth, refuse, needs_space={"open", "os.mkdir", "os.rename", "test.fsync"}, once=False)


def _at(nth: int, strike: Callable[[], None], needs_space: set[str] = TOUCHING, once: bool = True) -> Callable[[], None]:
    def install() -> None:
        count, sync = 0, os.fsync

        def audited(descriptor: int) -> None:
            sys.audit("test.fsync")
            sync(descriptor)

        def hook(event: str, _: tuple[Any, ...]) -> None:
            nonlocal count
            count += event in needs_space
            if event in needs_space and (count == nth or (count > nth and not once)):
                strike()

        os.fsync = audited
        sys.addaudithook(hook)

    return install


def limited(size: int, kill: bool) -> Callable[[], None]:
    """No file may grow beyond ``size`` bytes: the write that passes it is cut short there, and kills the process or fails."""

    def install() -> None:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if kill else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return install


def in_child(folder: Path, work: Callable[[Path], None], install: Callable[[], None], nobody: bool = False) -> tuple[bool, str]:
    """Do ``work`` in a fork with the fault, ``folder`` being its current one; returns (whether it ended without harm, the QI2Error's text).

    ``nobody``: without root's right to write anywhere.
    """
    from qi2.core.errors import QI2Error

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.chdir(folder)
            if nobody and os.getuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            install()
            work(Path("."))
            os._exit(0)
        except QI2Error as error:
            os.write(writing, str(error).encode())
            os._exit(SAID)
        except BaseException as error:
            os.write(writing, repr(error).encode())
            os._exit(HARMED)
    os.close(writing)
    with open(reading, "rb") as handle:
        text = handle.read().decode()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code != HARMED, text
    return code == 0, text
