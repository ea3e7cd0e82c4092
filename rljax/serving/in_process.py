"""A server in a thread of its own, beside whatever else its process does."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from starlette.applications import Starlette

from rljax.serving.server import Server
from rljax.serving.worker import Worker

HOST = "127.0.0.1"

# Seconds until a server that was told to end has ended.
END_SECONDS = 30.0


@contextlib.contextmanager
def in_process(app: Starlette, worker: Worker) -> Iterator[str]:
    """Serves an application of this machine alone at a free port; inside, its address.

    At the end requests that still run are given up.

    Args:
        app: the application.
        worker: that answers it; it is started and ended elsewhere.

    Raises:
        RuntimeError: the server does not start, or does not end.
    """
    urls: list[str] = []
    ready = threading.Event()

    def started(url: str) -> None:
        urls.append(url)
        ready.set()

    server = Server(app, worker, host=HOST, port=0, started=started)

    def serve() -> None:
        try:
            asyncio.run(server.serve())
        finally:
            ready.set()

    thread = threading.Thread(target=serve, name="rljax-server", daemon=True)
    thread.start()
    ready.wait()
    if not urls:
        raise RuntimeError(f"The server of this process could not listen at {HOST}.")
    try:
        yield urls[0]
    finally:
        server.force_exit = server.should_exit = True
        thread.join(END_SECONDS)
        if thread.is_alive():
            raise RuntimeError(f"The server of this process has not ended in {END_SECONDS:g} s.")
