r"""Serves a model to OpenAI's clients, and to agents that play episodes.

    python launch/serve.py --model=FOLDER                         # a published model
    python launch/serve.py --model=WORKDIR[/checkpoints/STAGE[/STEP]] --port=8000 --slots=64

    /v1/completions, /v1/chat/completions, /v1/models, /health, /v1/episodes/NAME

Requests join and leave while others run; what one is answered does not depend on the others. Beside
the usual fields a request may have return_token_ids, min_tokens, top_k, min_p, stop_token_ids,
ignore_eos, continued, chat_template_kwargs, episode and on_rewrite (rljax/serving/README.md).

SIGTERM and Ctrl-C: no more requests are taken, and those that have been taken are answered.
"""

import argparse
import asyncio
import dataclasses
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rljax.commands.parser import Parser, named, path, whole
from rljax.commands.run import run
from rljax.commands.statuses import Status
from rljax.processes.identity import check_alone

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from rljax.serving.limits import Limits
    from rljax.serving.service import Service
    from rljax.training.run.loaded import Model

# What errors of the library call the flags.
FLAGS = {
    r"config\.model\.init_from": "--model",
    r"config\.tokenizer(\.\w+)?": "--tokenizer",
    r"config\.mesh": "--mesh",
    r"config\.sampler\.(weights|cache)(_dtype)?": r"--\1",
}

# Flags that are fields of `Limits`, with what --help says of them.
LIMITS = {
    "slots": "rows decoded at a time",
    "context": "tokens of prompt and completion together",
    "steps": "tokens of each row between two looks at the queue",
    "prefill_tokens": "prompt tokens computed at a time, about",
    "queue": "rows that may wait; further requests get status 429",
    "samples": "samples of one request at most",
    "episodes": "that are kept at a time",
    "body_bytes": "of one request at most",
}


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__)
    add = made.add_argument_group("model").add_argument
    add(
        "--model",
        type=path,
        required=True,
        metavar="DIR",
        help="a Hugging Face folder, or a run or a part of it",
    )
    add("--name", type=named, help="what requests call the model (the folder's name)")
    add("--adapters", type=path, metavar="DIR", help="of a folder, as the library PEFT writes them")
    add("--tokenizer", default="", metavar="DIR", help="a folder, or byte (the model's own)")
    add("--dtype", default=None, choices=("float32", "bfloat16"), help="in which a folder is read")
    add("--weights", default="", choices=("bfloat16", "int8"), help="as they are, or in this")
    add("--cache", default="", choices=("int8",), help="of keys and values")
    add("--mesh.data", type=whole(-1), metavar="N", help="size of this axis of the mesh (all)")
    add("--mesh.tensor", type=whole(-1), metavar="N", help="size of this axis of the mesh (1)")
    add = made.add_argument_group("server").add_argument
    add("--host", default="127.0.0.1", help="address to listen at (127.0.0.1: this machine alone)")
    add("--port", type=whole(0, 65535), default=8000, help="0: a free one (8000)")
    add("--api-key-file", type=path, metavar="FILE", help="keys, one a line; requests need one")
    add("--drain-seconds", type=whole(1), help="after SIGTERM, requests are given up then (never)")
    add = made.add_argument_group("sizes").add_argument
    for name, text in LIMITS.items():
        add(f"--{name.replace('_', '-')}", type=whole(1), metavar="N", help=text)
    return made


def api_keys(file: Path | None) -> tuple[str, ...]:
    """The keys of a file, one a line.

    Raises:
        ValueError: for a file without any, or with a key that no header can carry.
    """
    if file is None:
        return ()
    keys = tuple(filter(None, map(str.strip, file.read_text(encoding="utf-8").splitlines())))
    if not keys:
        raise ValueError(f"{file} holds no key; write one a line (--api-key-file).")
    for place, key in enumerate(keys, 1):
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError(
                f"Key {place} of {file} must be ASCII without blanks (--api-key-file)."
            )
    return keys


def load(flags: argparse.Namespace, mesh: "Mesh") -> tuple["Model", int]:
    """The model of --model, and the version of its weights: the step of a run's checkpoint."""
    from rljax.config.runs import find_step
    from rljax.models.pretrained import is_pretrained
    from rljax.training.run.loaded import load_published, load_run

    if is_pretrained(flags.model):
        dtype = flags.dtype or "float32"
        return load_published(flags.model, flags.tokenizer, dtype, flags.adapters, mesh, {}), 0
    for name in ("adapters", "dtype"):
        if getattr(flags, name) is not None:
            raise ValueError(
                f"--{name} is of a Hugging Face folder; {flags.model} is a run (--{name})"
            )
    # The checkpoint is found once: a run may write another one while this one is loaded.
    checkpoint = find_step(flags.model, "--model")
    model = load_run(checkpoint, flags.tokenizer, mesh, {}, flag="--model")
    return model, int(checkpoint.name)


def limits_of(flags: argparse.Namespace, positions: int) -> "Limits":
    """The sizes of the flags; by default the context is that of the model, 2,048 at most."""
    from rljax.serving.limits import Limits

    given = {name: getattr(flags, name) for name in LIMITS}
    given = {name: value for name, value in given.items() if value is not None}
    default = next(each.default for each in dataclasses.fields(Limits) if each.name == "context")
    given.setdefault("context", min(positions or default, default))
    return Limits(**given)


def serve(flags: argparse.Namespace) -> int:
    """Loads the model and serves it until it is told to stop."""
    check_alone("launch/serve.py", os.environ)
    keys = api_keys(flags.api_key_file)
    try:
        from rljax.serving.app import make_app
        from rljax.serving.server import Server
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise ValueError(
            f"{error.name} is missing; serving needs the extra 'serve': pip install 'rljax[serve]'."
        ) from error
    try:
        service = make_service(flags)
    except ValueError as error:
        for pattern, name in FLAGS.items():
            error.args = (re.sub(pattern, name, str(error)),)
        raise

    def started(url: str) -> None:
        print(f"serving {service.model.name} at {url}/v1", flush=True)

    server = Server(
        make_app(service, keys),
        service.worker,
        host=flags.host,
        port=flags.port,
        drain_seconds=flags.drain_seconds,
        started=started,
    )
    service.worker.start()
    service.worker.warm()
    asyncio.run(server.serve_until_stopped(signals=True))
    service.worker.join()
    return {2: Status.INTERRUPTED, 15: Status.TERMINATED}.get(server.signal or 0, Status.FAILED)


def make_service(flags: argparse.Namespace) -> "Service":
    """The service of the model that the flags name."""
    from rljax.parallel.mesh import make_mesh
    from rljax.serving.service import Service, make_worker

    sizes = {axis: getattr(flags, f"mesh.{axis}") for axis in ("data", "tensor")}
    given = {axis: size for axis, size in sizes.items() if size is not None}
    mesh = make_mesh({"data": -1} | given)
    model, version = load(flags, mesh)
    config = model.network.config
    if config.head != "language_model":
        raise ValueError(f"{flags.model} has a {config.head} head, no language model's (--model)")
    worker = make_worker(
        model.network,
        model.params,
        model.text_format,
        mesh,
        limits_of(flags, config.max_positions),
        weights=flags.weights,
        cache=flags.cache,
        version=version,
    )
    name = flags.name or Path(os.path.abspath(flags.model)).name
    return Service(name, worker, model.text_format)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), serve, arguments)


if __name__ == "__main__":
    sys.exit(main())
