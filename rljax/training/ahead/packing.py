"""Experience as bytes: the queue in a checkpoint.

A tree of NumPy arrays, texts, numbers and the named tuples of this table becomes a JSON text, and
the arrays beside it in NumPy's own format. Nothing that is read back can run code.
"""

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from rljax.environments.players import Opening
from rljax.rewards.pool import Scores
from rljax.sampling.request import Rollouts
from rljax.training.ahead.pipeline import Ready, Writing
from rljax.training.ahead.writers import Paused
from rljax.training.collect.experience import Demonstrations, Experience
from rljax.training.collect.rollouts import Samples
from rljax.training.collect.windowed import Responses

# Named tuples that experience is made of.
KINDS = {
    kind.__name__: kind
    for kind in (
        *(Demonstrations, Experience, Opening, Paused, Ready, Responses, Rollouts, Samples),
        *(Scores, Writing),
    )
}

TEXT = "tree"  # the JSON text among the arrays
TEXTS = "texts"  # an array [N] of texts of any length


def pack(value: Any) -> np.ndarray:
    """A tree as bytes, [n] u8; the same tree gives the same bytes.

    Raises:
        TypeError: for a kind of value that is not in the table.
    """
    arrays: list[np.ndarray] = []
    text = json.dumps(_plain(value, arrays)).encode()
    file = io.BytesIO()
    named = {str(number): array for number, array in enumerate(arrays)}
    np.savez(file, allow_pickle=False, **{TEXT: np.frombuffer(text, np.uint8)}, **named)
    return np.frombuffer(file.getvalue(), np.uint8).copy()


def unpack(content: np.ndarray) -> Any:
    """The tree that `pack` made bytes of."""
    with np.load(io.BytesIO(content.tobytes()), allow_pickle=False) as file:
        return _whole(json.loads(file[TEXT].tobytes()), file)


def _plain(value: Any, arrays: list[np.ndarray]) -> Any:
    """A value as JSON: texts and numbers as they are, anything else as {kind: content}."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray) and value.dtype == object:  # texts
        return {TEXTS: [_plain(item, arrays) for item in value]}
    if isinstance(value, np.ndarray | np.generic):
        arrays.append(np.asarray(value))
        return {"array": len(arrays) - 1}
    if type(value).__name__ in KINDS:
        return {type(value).__name__: [_plain(item, arrays) for item in value]}
    if isinstance(value, Mapping):
        pairs = ([_plain(key, arrays), _plain(item, arrays)] for key, item in value.items())
        return {"mapping": list(pairs)}
    if type(value) in (list, tuple):
        return {type(value).__name__: [_plain(item, arrays) for item in value]}
    raise TypeError(f"Experience holds a {type(value).__name__}, which cannot be saved.")


def _whole(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        return arrays[str(content)]
    if kind == "mapping":
        return {_key(_whole(key, arrays)): _whole(item, arrays) for key, item in content}
    items = [_whole(item, arrays) for item in content]
    if kind == TEXTS:
        return np.array(items, object)
    if kind in KINDS:
        return KINDS[kind](*items)
    return tuple(items) if kind == "tuple" else items


def _key(value: Any) -> Any:
    return value.item() if isinstance(value, np.ndarray) else value
