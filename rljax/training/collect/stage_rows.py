"""The rows of a stage's own file: each is read once before anything compiles, as training reads it.

A row is cut or left out by the stage's rule (`data.truncation`, data/truncation.py), and by another
one if it says nothing to learn (`data.unusable`); those that cannot be read are refused together.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from ml_collections import ConfigDict

from rljax.config.stage import Stage
from rljax.data.encode import pad_completions, pad_prompts
from rljax.data.feedback import Demonstration
from rljax.data.feedback_survey import NAMED_ROWS, FeedbackSurvey, Row, short_place
from rljax.data.packing import Example
from rljax.data.sources import Part, place_of
from rljax.data.truncation import Budgets, Losses, fitting_example, fitting_prompt
from rljax.data.values import UnusableRow
from rljax.remarks import say_once
from rljax.training.run.context import Context, Record
from rljax.training.run.problems import BUDGET, checks_whole
from rljax.training.update.rows import Rows, rollout_rows

# pair_of and its like of data/feedback.py: (record, text_format, *, where, field, check_whole).
Read = Callable[..., Row]

# The field of `data` that names the rows that a stage is judged by.
HELDOUT = "heldout_path"


def judged(stage: Stage, heldout: Sequence[Record]) -> Sequence[Record]:
    """The held-out rows that a stage is judged by: the first `data.heldout_limit`, or all."""
    return Part(heldout, range(min(stage.data["heldout_limit"] or len(heldout), len(heldout))))


def rule_of(stage: Stage) -> str:
    """What becomes of rows that are too long; what a stage samples itself always fits."""
    return stage.data.get("truncation", "refuse")


def keeps_all(stage: Stage) -> bool:
    """Whether no rule leaves out a row of the stage's file: what was checked is all of it."""
    return rule_of(stage) == "refuse" and stage.data.get("unusable") != "drop"


def budgets_of(config: ConfigDict, stage: Stage) -> Budgets:
    """Tokens that a stage has room for."""
    where = f"config.{stage.name}.data"
    fields = BUDGET, f"{where}.max_completion_tokens"
    if "truncation" in stage.data:
        fields = (
            f"{BUDGET}; {where}.truncation='keep_end_of_prompt' cuts it",
            f"{where}.max_completion_tokens; {where}.truncation='drop' leaves the row out",
        )
    return Budgets(config.data.max_prompt_tokens, stage.data["max_completion_tokens"], *fields)


def fitted(context: Context, stage: Stage, row: Row, where: str) -> Row | None:
    """A row with what is kept of its prompt; None where it is left out.

    Raises:
        ValueError: where the stage's rule is "refuse" and the row is too long.
    """
    prompt = fitting_prompt(
        row.prompt,
        row.answers(),
        budgets_of(context.config, stage),
        rule_of(stage),
        bos_id=context.tokenizer.bos_id,
        where=where,
    )
    return None if prompt is None else row._replace(prompt=prompt)


def rows_of_step(
    context: Context, stage: Stage, records: Sequence[Record], read: Read
) -> list[Row]:
    """Records of a step as rows that fit; `checked_rows` has left out those that do not.

    Args:
        context: of the run.
        stage: that learns from them.
        records: with their ids.
        read: a reader of data/feedback.py or data/pairs.py.
    """
    rows, field = [], f"config.{stage.name}.data.path"
    for record in records:
        where = f"row {record['id']}"
        row = read(record, context.text_format, where=where, field=field)
        rows.append(fitted(context, stage, row, where))
    return rows


def answer_rows(
    context: Context,
    stage: Stage,
    prompts: Sequence[list[int]],
    answers: Sequence[Sequence[list[int]]],
    *,
    share_prompts: bool,
) -> Rows:
    """Prompts with K answers each as rows of a batch (training/update/rows.py).

    Args:
        context: of the run.
        stage: that learns from them.
        prompts: ids, B of them.
        answers: ids, K for each prompt; an empty one has no token in the mask.
        share_prompts: the answers of a prompt in one row, or each in a row of its own.
    """
    pad_id = context.tokenizer.pad_id
    padded, prompt_mask = pad_prompts(
        prompts, pad_id, max_prompt_tokens=context.config.data.max_prompt_tokens
    )
    completions, mask = pad_completions(
        [ids for each in answers for ids in each],
        pad_id,
        max_new_tokens=stage.data["max_completion_tokens"],
    )
    shape = (len(padded), len(answers[0]), -1)
    return rollout_rows(
        padded,
        prompt_mask,
        completions.reshape(shape),
        mask.reshape(shape),
        share_prompts=share_prompts,
    )


def ragged_rows(
    context: Context,
    stage: Stage,
    prompts: Sequence[list[int]],
    answers: Sequence[Sequence[list[int]]],
    count: int,
) -> tuple[Rows, np.ndarray]:
    """`answer_rows` of prompts with up to K answers each, in the layout of the stage.

    Args:
        context: of the run.
        stage: that learns from them.
        prompts: ids, B of them.
        answers: ids, at most K for each prompt.
        count: K.

    Returns:
        The rows; and [B, K] bool, False where a prompt has fewer answers or one is empty.
    """
    filled = [[*each, *[[]] * (count - len(each))] for each in answers]
    share = stage.batch.share_prompts
    rows = answer_rows(context, stage, prompts, filled, share_prompts=share)
    return rows, rows["mask"].any(axis=-1).reshape(len(prompts), count)


def checked_rows(
    context: Context,
    stage: Stage,
    records: Sequence[Record],
    read: Read,
    survey: FeedbackSurvey | None = None,
    field: str = "path",
) -> Sequence[Record]:
    """Reads every record once, says what is remarkable, and leaves out what the rules say.

    Args:
        context: of the run.
        stage: that learns from them.
        records: of its file.
        read: a reader of data/feedback.py or data/pairs.py.
        survey: takes the rows into account, to be compared with those of another file.
        field: of the stage's `data` that names the file.

    Returns:
        The records that are kept, in their order.

    Raises:
        ValueError: for rows that cannot be read, used or are too long, columns that cannot be
            meant, or if no row is left.
    """
    survey, losses = survey or FeedbackSurvey(), Losses()
    kept, usable, problems = [], [], []
    place = f"config.{stage.name}.data.{field}"
    for index in range(len(records)):
        where, whole = place_of(records, index), checks_whole(context.config, index)
        try:
            row = read(
                records[index], context.text_format, where=where, field=place, check_whole=whole
            )
            _check_ids(context, row, where)
            fits = fitted(context, stage, row, where)
        except ValueError as error:
            if not _is_dropped(stage, error):
                problems.append((where, error))
            continue
        usable.append(index)
        survey.add(row)
        losses.add(row.prompt, None if fits is None else fits.prompt)
        if fits is not None:
            kept.append(index)
    raise_all(problems, f"config.{stage.name}.data.unusable")
    refusal = survey.refusal()
    if refusal:
        raise ValueError(f"{_file_of(records)}: {refusal} ({place}).")
    unusable = len(records) - len(usable)
    _raise_for_none(stage, records, kept, unusable)
    say_all(stage, survey.remarks(lambda index: place_of(records, usable[index])), field)
    say_all(stage, _unusable_remark(unusable, len(records)), "unusable")
    say_all(stage, losses.remarks(), "truncation")
    return records if len(kept) == len(records) else Part(records, kept)


def checked_examples(
    context: Context,
    stage: Stage,
    records: Sequence[Record],
    read: Callable[[Record, str, int], Example],
) -> tuple[list[int], list[Example]]:
    """The demonstrations of a file that fit into rows; says what is remarkable about them.

    Args:
        context: of the run.
        stage: that learns from them.
        records: of its file.
        read: (record, place, index) to an example.

    Returns:
        Which records are kept, and what they are.

    Raises:
        ValueError: for rows that cannot be read or are too long, or if none is left.
    """
    survey, losses, problems, unusable = FeedbackSurvey(), Losses(), [], 0
    usable: list[int] = []
    fitting: dict[int, Example] = {}
    field = f"config.{stage.name}.data.row_tokens"
    for index in range(len(records)):
        where = place_of(records, index)
        try:
            example = read(records[index], where, index)
            kept = fitting_example(
                example,
                stage.data["row_tokens"],
                rule_of(stage),
                bos_id=context.tokenizer.bos_id,
                where=where,
                field=field,
            )
        except ValueError as error:
            if _is_dropped(stage, error):
                unusable += 1
            else:
                problems.append((where, error))
            continue
        usable.append(index)
        first = example.learned.index(True)
        survey.add(Demonstration(example.tokens[:first], example.tokens[first:]))
        losses.add(example.tokens, None if kept is None else kept.tokens)
        if kept is not None:
            fitting[index] = kept
    raise_all(problems, f"config.{stage.name}.data.unusable")
    _raise_for_none(stage, records, [*fitting], unusable)
    say_all(stage, survey.remarks(lambda index: place_of(records, usable[index])), "path")
    say_all(stage, _unusable_remark(unusable, len(records)), "unusable")
    say_all(stage, losses.remarks(), "truncation")
    return [*fitting], [*fitting.values()]


def _check_ids(context: Context, row: Row, where: str) -> None:
    """Raises ValueError for an answer without a token, and for ids beyond the tokenizer's.

    Rows may give ids instead of texts. An id that the model has no embedding for would be read as
    another one.
    """
    size = context.tokenizer.vocab_size
    for name, ids in {"prompt": row.prompt, **row.answers()}.items():
        if not ids and name != "prompt":
            raise UnusableRow(f"{where}: {name} has no token; an answer has one.")
        if max(ids, default=0) >= size:
            raise ValueError(
                f"{where}: {name} holds the token id {max(ids)}, and the tokenizer's are below "
                f"{size} (config.tokenizer.path)."
            )


def _is_dropped(stage: Stage, error: ValueError) -> bool:
    """Whether the row of an error is left out; what a stage samples itself is never unusable."""
    return isinstance(error, UnusableRow) and stage.data.get("unusable") == "drop"


def _unusable_remark(count: int, rows: int) -> list[str]:
    said = "say nothing to learn (empty answers, equal sides, no right step) and are left out"
    return [f"{count} of {rows} rows {said}"] if count else []


def say_all(stage: Stage, remarks: Iterable[str], field: str) -> None:
    """Says what is remarkable about the rows of a stage, each once."""
    for remark in remarks:
        say_once(f"{remark} (config.{stage.name}.data.{field})")


def _raise_for_none(
    stage: Stage, records: Sequence[Record], kept: Sequence[object], unusable: int = 0
) -> None:
    if kept:
        return
    where, count = f"config.{stage.name}.data", len(records)
    said = f"all {count} rows are too long ({where}.truncation)"
    if unusable:
        said = (
            f"{unusable} of {count} rows say nothing to learn and {count - unusable} are too long: "
            f"none is left ({where}.unusable, {where}.truncation)"
        )
    raise ValueError(f"{_file_of(records)}: {said}.")


def _file_of(records: Sequence[Record]) -> str:
    """The file that the first record stands in."""
    return place_of(records, 0).rpartition(", ")[0] or "the rows"


def raise_all(problems: Sequence[tuple[str, ValueError]], rule: str = "") -> None:
    """Raises the first problem, with the rows of the next ones.

    Args:
        problems: (place, error) of each row.
        rule: the config field that leaves out a row that says nothing to learn; "" where there is
            none.
    """
    if not problems:
        return
    (_, first), *rest = problems
    droppable = rule and isinstance(first, UnusableRow)
    hint = f" {rule}='drop' leaves such a row out." if droppable else ""
    if not rest:
        raise ValueError(f"{first}{hint}") if hint else first
    named = ", ".join(short_place(where) for where, _ in rest[:NAMED_ROWS])
    more = f" and {len(rest) - NAMED_ROWS} more" if len(rest) > NAMED_ROWS else ""
    raise ValueError(
        f"{first} {len(rest)} more rows are refused: {named}{more} (launch/data.py lists them)."
        f"{hint}"
    ) from first
