"""The slots for which runs take turns: one run for each scale, and one stage at a time in the DVC workspace, two where both say so.

A slot belongs to a lease that its run renews. The lease of a killed run ends at most a minute after its last renewal, the shortest that
Prefect allows; then the server takes the slot back, even when it was itself stopped meanwhile: it keeps the leases as files.
"""

from collections.abc import Iterator
from contextlib import suppress

from flows import prefect_api
from tasks import settings

WORKSPACE = "dvc-workspace"
STAGES = 2  # slots of the workspace: a stage takes one where its scale lets two stages run side by side, else all
LEASE_S = 60
LEASES = settings.STATE / "prefect" / "concurrency_leases"


def of_scale(scale: str) -> str:
    """The limit that a run of ``scale`` holds from beginning to end."""
    return f"scale-{scale}"


def create() -> None:
    """Make the limits that the server does not have yet, and set their sizes."""
    for name, limit in {WORKSPACE: STAGES, **{of_scale(scale): 1 for scale in settings.SCALES}}.items():
        prefect_api.call("POST", "/v2/concurrency_limits/", {"name": name, "limit": limit}, accept=(prefect_api.CONFLICT,))
        prefect_api.call("PATCH", f"/v2/concurrency_limits/{name}", {"limit": limit})


def taken(side_by_side: bool) -> int:
    """How many slots of the workspace a stage takes."""
    return 1 if side_by_side else STAGES


def free_lost() -> None:
    """Free the local server's slots that no lease holds: it never would, and the next run would wait for them for ever.

    A server that was killed while it gave a slot out leaves one, and so does one that kept its leases in memory.
    """
    taken = [limit for limit in prefect_api.call("POST", "/v2/concurrency_limits/filter", {}) if limit["active_slots"]]
    leases = "".join(_leases())  # read after the limits: a slot that is given out in between has its lease by now
    for limit in taken:
        if limit["id"] not in leases:
            prefect_api.call("PATCH", f"/v2/concurrency_limits/{limit['id']}", {"active_slots": 0})


def _leases() -> Iterator[str]:
    for path in LEASES.glob("*.json"):
        with suppress(FileNotFoundError):  # it has just been given back
            yield path.read_text()
