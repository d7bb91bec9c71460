"""Resident memory of everything that a run keeps alive: the stage's processes and the local stack."""

import os

import psutil

from flows import stack


def resident(*roots: int) -> int:
    """Bytes held by this process, the given ones, the stack, and the children of all; shared pages count once per process."""
    members: dict[int, psutil.Process] = {}
    for pid in (os.getpid(), *roots, *(found.pid for name in stack.NAMES if (found := stack.process(name)))):
        try:
            parent = psutil.Process(pid)
            members |= {child.pid: child for child in (parent, *parent.children(recursive=True))}
        except psutil.Error:
            continue
    return sum(_rss(member) for member in members.values())


def _rss(member: psutil.Process) -> int:
    try:
        return int(member.memory_info().rss)
    except psutil.Error:
        return 0
