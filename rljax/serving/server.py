"""The HTTP server (uvicorn) around an application, from its start to its end."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

import uvicorn
from starlette.applications import Starlette

from rljax.serving.worker import Worker

# Seconds between two looks at the worker.
WATCH = 0.5


class Server(uvicorn.Server):
    """Ends by `stop`, after every request that has been taken is answered."""

    def __init__(
        self,
        app: Starlette,
        worker: Worker,
        *,
        host: str,
        port: int,
        drain_seconds: int | None = None,
        started: Callable[[str], None] = lambda url: None,
    ) -> None:
        """Prepares the server.

        Args:
            app: the application.
            worker: that answers it.
            host, port: where it listens; port 0 takes a free one.
            drain_seconds: requests that take longer than this after `stop` are given up.
            started: is called with the address once it listens.
        """
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            log_config=None,  # warnings go where those of the process go
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=drain_seconds,
        )
        super().__init__(config)
        self._worker, self._started_with = worker, started
        self.signal: signal.Signals | None = None

    def stop(self) -> None:
        """No more requests are taken; the server ends once it has answered."""
        self._worker.drain()
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are handled by `handle_signals`, and not raised once more at the end."""
        yield

    def handle_signals(self) -> None:
        """SIGTERM and Ctrl-C stop the server; a second Ctrl-C does not wait for answers."""

        def stop(number: signal.Signals) -> None:
            self.force_exit = self.signal is not None and number == signal.SIGINT
            self.signal = self.signal or number
            self.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop, number)

    async def startup(self, sockets: list | None = None) -> None:
        """Listens, and says where."""
        await super().startup(sockets)
        if self.should_exit:
            return
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        self._started_with(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    async def watch(self) -> None:
        """Stops the server when the worker has failed."""
        while self._worker.error is None:
            await asyncio.sleep(WATCH)
        self.should_exit = True

    async def serve_until_stopped(self, *, signals: bool) -> None:
        """Serves; with `signals` also handles them, which the main thread alone can do.

        Raises:
            Exception: what the worker has failed with.
        """
        if signals:
            self.handle_signals()
        watching = asyncio.ensure_future(self.watch())
        try:
            await self.serve()
        finally:
            watching.cancel()
            self._worker.drain()
        if self._worker.error is not None:
            raise self._worker.error
