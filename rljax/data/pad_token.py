"""The padding token of an exported reward model.

transformers' classes for sequences find the last token of a row by its id: it is the last one that
is not config.json's `pad_token_id`. A padding id that also ends completions would hide their end,
and the score would be that of the token before.
"""

import json
from pathlib import Path

from rljax.data.text_format import TextFormat

CONFIG = "tokenizer_config.json"


def pad_that_ends_nothing(text_format: TextFormat, token: str, field: str) -> int:
    """The id of the padding token.

    Args:
        text_format: of the run.
        token: the text of the padding token; "": that of the tokenizer.
        field: that gives `token`, for errors.

    Raises:
        ValueError: for an id that ends completions, for a text that is not one token, and for one
            that is not needed.
    """
    tokenizer, ends = text_format.tokenizer, text_format.ends
    if tokenizer.pad_id not in ends:
        if token:
            raise ValueError(
                f"The tokenizer has a padding token already, {tokenizer.pad_id}, and it ends no "
                f"completion: leave {token!r} out ({field})."
            )
        return tokenizer.pad_id
    if not token:
        raise ValueError(
            f"The tokenizer has no padding token, or one that ends completions (its id is "
            f"{tokenizer.pad_id}): transformers would score the token before the end. Name another "
            f"token that never occurs in a text ({field})."
        )
    ids = tokenizer.encode(token)
    if len(ids) != 1 or ids[0] in ends:
        raise ValueError(
            f"{token!r} is {ids} in the tokenizer; a padding token must be one id that ends no "
            f"completion, and not one of {sorted(ends)} ({field})."
        )
    return ids[0]


def with_pad_token(tokenizer: Path, token: str, folder: Path) -> None:
    """Writes tokenizer_config.json with this padding token.

    Args:
        tokenizer: the folder of the tokenizer.
        token: the text of the padding token.
        folder: where the file is written.
    """
    path = tokenizer / CONFIG
    values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    text = json.dumps(values | {"pad_token": token}, indent=2, ensure_ascii=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
