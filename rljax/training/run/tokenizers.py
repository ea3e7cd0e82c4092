"""Whether the models that read the policy's tokens have its tokenizer; sizes alone do not tell."""

from collections.abc import Sequence

from rljax.config.runs import find_step, run_config
from rljax.config.stage import Stage
from rljax.data.tokenizers import Tokenizer, holds_tokenizer, load_tokenizer
from rljax.models.pretrained import is_pretrained
from rljax.training.run.models import OTHERS, SEVERAL, members_of
from rljax.training.update.verdicts import judge_ids, verdict_ids


def check_tokenizers(stages: Sequence[Stage], tokenizer: Tokenizer) -> None:
    """Compares the tokenizer of every folder that a reward, teacher, judge or guide model
    comes from.

    Models of the run itself share its tokenizer. A folder that holds none cannot be asked.

    Args:
        stages: of the run, starts being absolute.
        tokenizer: of the run.

    Raises:
        ValueError: naming the first id that is another token there.
    """
    inside = {"model", *(stage.name for stage in stages)}
    for stage in stages:
        named = [
            (f"{role}.start_from", stage.models.get(role, {}).get("start_from", "model"))
            for role in OTHERS
        ]
        named += [
            (f"{role}.members", member) for role in SEVERAL for member in members_of(stage, role)
        ]
        for field, origin in named:
            theirs = None if origin in inside else _tokenizer_of(origin)
            if theirs is None:
                continue
            where = f"config.{stage.name}.models.{field}"
            difference = first_difference(tokenizer, theirs)
            if difference is not None:
                raise ValueError(
                    f"{where}={origin!r} has another tokenizer than the policy: {difference}; it "
                    f"reads the policy's tokens and needs the same one ({where})."
                )


def check_verdicts(stages: Sequence[Stage], tokenizer: Tokenizer) -> None:
    """Raises ValueError for an answer of a generative reward that is no single token."""
    for stage in stages:
        fields = stage.models.get("reward", {})
        where = f"config.{stage.name}.models.reward"
        if fields.get("judge"):
            judge_ids(fields, tokenizer, where)
        elif fields.get("question"):
            verdict_ids(tokenizer, fields["verdicts"], f"{where}.verdicts")


def first_difference(ours: Tokenizer, theirs: Tokenizer) -> str | None:
    """The first id that two tokenizers do not agree on, in words; None: they are the same.

    Tokenizers of two kinds, such as bytes and their export, show a token in two ways: there
    the bytes that it adds to a text decide.
    """
    spelt: list[list[bytes]] = []
    known = ours.known(), theirs.known()
    for token_id in range(max(map(len, known))):
        there = [token_id < len(ids) and bool(ids[token_id]) for ids in known]
        texts = [
            each.token_text(token_id) if is_there else "no token"
            for each, is_there in zip((ours, theirs), there, strict=True)
        ]
        if texts[0] == texts[1]:
            continue
        if type(ours) is type(theirs) or not all(there):
            return f"id {token_id} is {texts[1]!r} there and {texts[0]!r} here"
        spelt = spelt or [ours.token_bytes(), theirs.token_bytes()]
        if not spelt[0][token_id] or spelt[0][token_id] != spelt[1][token_id]:
            return f"id {token_id} is {texts[1]!r} there and {texts[0]!r} here"
    return None


def _tokenizer_of(folder: str) -> Tokenizer | None:
    """The tokenizer of a published folder, or that of the run which wrote a checkpoint."""
    if is_pretrained(folder):
        return load_tokenizer(folder) if holds_tokenizer(folder) else None
    recorded = run_config(find_step(folder))
    if recorded is None:
        return None
    section = recorded["tokenizer"]
    return load_tokenizer(section["path"], tuple(section["special_tokens"]))
