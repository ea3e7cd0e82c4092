"""Notices that the machine is about to be taken away: they end a run as SIGTERM does.

    config.checkpoint.notice = "gce"           asks the metadata server of Google's virtual machines
    config.checkpoint.notice = "/run/preempt"  a file, which appears when it is time

The machine's own SIGTERM, which follows such a notice, then ends nothing at once.
"""

import contextlib
import os
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from rljax.errors import blamed
from rljax.training.signals import StopSignal

GCE = "gce"
POLL_SECONDS = 1.0
ANSWER_SECONDS = 5.0

# What the server says of a machine that will be taken away: as preemptible, or for maintenance.
GCE_ANSWERS = {
    "preempted": ("TRUE",),
    "maintenance-event": ("TERMINATE_ON_HOST_MAINTENANCE",),
}


@contextlib.contextmanager
def watched(notice: str, stop: StopSignal) -> Iterator[None]:
    """Meanwhile a thread looks for a notice, and asks the run to stop when there is one.

    Args:
        notice: `config.checkpoint.notice`; "" for none.
        stop: of the run.

    Raises:
        ValueError: if the source of notices cannot be asked.
    """
    if not notice:
        yield
        return
    given = _gce_notice if notice == GCE else Path(notice).exists
    where = f"The source of notices {notice!r} cannot be asked"
    with blamed(where, OSError, field="config.checkpoint.notice"):
        given()
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(given, stop, ended), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join(2 * ANSWER_SECONDS)


def _watch(given: Callable[[], bool], stop: StopSignal, ended: threading.Event) -> None:
    while not ended.wait(POLL_SECONDS):
        try:
            found = given()
        except OSError:  # it answered before; the next second may be better
            continue
        if found:
            stop.ask(signal.SIGTERM, "preemption notice")
            return


def _gce_notice() -> bool:
    host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
    for name, taken in GCE_ANSWERS.items():
        request = urllib.request.Request(
            f"http://{host}/computeMetadata/v1/instance/{name}",
            headers={"Metadata-Flavor": "Google"},
        )
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            if answer.read().decode(errors="replace").strip() in taken:
                return True
    return False
