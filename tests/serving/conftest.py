"""One small server, which the tests of this folder share: its programs are compiled once."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import NamedTuple

import jax
import pytest

from rljax.data.chat import make_template
from rljax.data.text_format import TextFormat
from rljax.data.tokenizers import HFTokenizer
from rljax.models.network import Network, Params
from rljax.serving.limits import Limits
from rljax.serving.service import Service, make_worker
from tests.folders import write_tokenizer

LIMITS = Limits(slots=8, context=192, steps=4, prefill_tokens=128, queue=64, samples=16, episodes=4)

# The test folder's template, with tools; `remember` of a message keeps thoughts of earlier turns.
TEMPLATE = (
    "{% if tools %}{{ '<|start|>tools\\n' + (tools | tojson) + '<|end|>\\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|start|>' + m['role'] + '\\n' }}"
    "{% if forget and m['role'] == 'assistant' and not loop.last %}{{ '(forgotten)' }}"
    "{% else %}{{ m['content'] }}{% endif %}{{ '<|end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant\\n' }}{% endif %}"
)


class Parts(NamedTuple):
    """A model, as a server and a generator take it."""

    network: Network
    params: Params
    text_format: TextFormat


@pytest.fixture(scope="session")
def parts(tiny_network, one_device, tmp_path_factory) -> Parts:
    tokenizer = HFTokenizer(write_tokenizer(tmp_path_factory.mktemp("tokenizer"), TEMPLATE))
    network = tiny_network(vocab_size=264, tied_embeddings=False)
    params = network.init(jax.random.key(1), one_device)
    params = {**params, "output": params["output"] * 3}
    return Parts(network, params, TextFormat(tokenizer, template=make_template(tokenizer)))


@pytest.fixture(scope="session")
def service(parts, one_device) -> Iterator[Service]:
    """With a worker that runs."""
    worker = make_worker(*parts, one_device, LIMITS, version=3)
    worker.start()
    yield Service("tiny", worker, parts.text_format)
    worker.drain()
    assert worker.join(60)


@contextlib.contextmanager
def listening(service: Service, **settings) -> Iterator[tuple[str, object]]:
    """The address of a server, and the server, in a thread of its own."""
    app, server_module = pytest.importorskip("starlette"), pytest.importorskip("uvicorn")
    del app, server_module
    from rljax.serving.app import make_app
    from rljax.serving.server import Server

    ready, urls = threading.Event(), []

    def started(url: str) -> None:
        urls.append(url)
        ready.set()

    app = make_app(service, settings.pop("api_keys", ()))
    server = Server(app, service.worker, host="127.0.0.1", port=0, started=started, **settings)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    assert ready.wait(30)
    try:
        yield urls[0], server
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def url(service) -> Iterator[str]:
    with listening(service) as (url, _):
        yield url
