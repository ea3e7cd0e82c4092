"""A file that appears, or the metadata server, ends a run as SIGTERM does."""

import http.server
import signal
import threading
import time

import pytest

from rljax.training import notices
from rljax.training.notices import GCE, watched
from rljax.training.signals import StopSignal

pytestmark = pytest.mark.contract


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(notices, "POLL_SECONDS", 0.01)


@pytest.fixture
def metadata(monkeypatch):
    """What the metadata server answers, by name; a test changes it."""
    answers = {"preempted": "FALSE", "maintenance-event": "NONE"}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.rpartition("/")[2]
            known = self.headers["Metadata-Flavor"] == "Google" and name in answers
            self.send_response(200 if known else 403)
            self.end_headers()
            self.wfile.write(answers.get(name, "").encode())

        def log_message(self, *about):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{server.server_port}")
        yield answers
        server.shutdown()


def asked(stop: StopSignal, seconds: float) -> bool:
    """Whether the run is asked to stop within some time."""
    until = time.monotonic() + seconds
    while stop.number is None and time.monotonic() < until:
        time.sleep(0.01)
    return stop.number == signal.SIGTERM


def test_a_file_that_appears_stops_the_run(tmp_path):
    stop = StopSignal()
    with watched(str(tmp_path / "notice"), stop):
        assert not asked(stop, 0.1)
        (tmp_path / "notice").write_text("")
        assert asked(stop, 10)


@pytest.mark.parametrize(
    "name, answer", [("preempted", "TRUE"), ("maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE")]
)
def test_the_metadata_server_stops_the_run(metadata, name, answer):
    stop = StopSignal()
    with watched(GCE, stop):
        assert not asked(stop, 0.1)
        metadata[name] = answer
        assert asked(stop, 10)


def test_without_a_metadata_server_the_field_is_refused(monkeypatch):
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:1")
    with pytest.raises(ValueError, match="'gce' cannot be asked: .*config.checkpoint.notice"):
        with watched(GCE, StopSignal()):
            pass


def test_no_notice_is_no_thread():
    before = threading.active_count()
    with watched("", StopSignal()):
        assert threading.active_count() == before
