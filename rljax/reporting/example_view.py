"""One example of each stage's first batch, token by token, as the self-check has kept it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from rljax.reporting import files
from rljax.reporting.run_data import Run

# Kinds of tokens -> what they are.
KINDS = {
    "prompt": "read, not learned",
    "learned": "learned",
    "end": "learned, and ends a completion",
    "unlearned": "after the first learned token, and not learned",
}

# Tokens that the page shows at most, half of them from each end.
SHOWN = 2000


def read_example(path: Path) -> dict[str, Any]:
    """The example in a file: {"tokens": [text, ...], "ids": [id, ...], "kinds": [kind, ...]}.

    Raises:
        ValueError: if the file is damaged, its lists differ in length, or a kind is unknown.
    """
    example = files.read_json(path)
    lists = [example.get(name) for name in ("tokens", "ids", "kinds")]
    if not all(isinstance(values, list) for values in lists) or len(set(map(len, lists))) != 1:
        raise ValueError(f"{path} must hold tokens, ids and kinds, lists of one length.")
    tokens, ids, kinds = lists
    for place, (token, number, kind) in enumerate(zip(tokens, ids, kinds, strict=True)):
        if not isinstance(token, str) or type(number) is not int or kind not in KINDS:
            raise ValueError(
                f"{path}, token {place} must be a text, a whole number and one of "
                f"{', '.join(KINDS)}, got {token!r}, {number!r}, {kind!r}."
            )
    return example


def example_section(runs: Sequence[Run]) -> str:
    """The examples of all stages as HTML; nothing where none was kept."""
    found = [
        (run, stage, example)
        for run in runs
        for stage, path in run.example_paths.items()
        if (example := read_example(path))["tokens"]
    ]
    if not found:
        return ""
    key = "".join(
        f'<li><span class="token-{kind}">{kind}</span>: {meaning}</li>'
        for kind, meaning in KINDS.items()
    )
    several = len(runs) > 1
    views = "".join(
        f"<figure class=example><figcaption><span class=title>"
        f"{escape(f'{run.name}, {stage}' if several else stage)}</span>"
        f"<span class=last>{len(example['tokens']):,} tokens</span></figcaption>"
        f"<pre>{token_spans(example)}</pre></figure>"
        for run, stage, example in found
    )
    return (
        '<section id="examples"><h2>First examples</h2>'
        "<p class=meaning>A sequence of each stage's first batch, as the model reads it; point at "
        f"a token for its id.</p><ul class=legend>{key}</ul>{views}</section>"
    )


def token_spans(example: Mapping[str, Any]) -> str:
    """Tokens as spans, their classes being the kinds; the middle of a long example is left out."""
    count, half = len(example["tokens"]), SHOWN // 2
    tokens = zip(example["tokens"], example["ids"], example["kinds"], strict=True)
    spans = [
        f'<span class="token-{kind}" title="id {number}">{_visible(token)}</span>'
        for token, number, kind in tokens
    ]
    if count > SHOWN:
        spans[half : count - half] = [f"<i> ... {count - SHOWN:,} tokens ... </i>"]
    return "".join(spans)


def _visible(token: str) -> str:
    """The escaped text; line breaks are marked, and an empty token is a box."""
    return escape(token).replace("\n", "\u21b5\n") or "\u25a1"
