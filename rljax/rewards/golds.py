"""Gold answers, read when a file is opened and not when the first sample is scored.

A reward may bring a reader of its gold. `GOLD_READERS` lists them beside the rewards of
`functions.REWARDS`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from rljax.errors import reason
from rljax.rewards.actions import read_action
from rljax.rewards.code.golds import ALLOWED as TESTS_ALLOWED
from rljax.rewards.code.golds import read_tests
from rljax.rewards.countdown import read_countdown
from rljax.rewards.instructions.table import read_instructions
from rljax.rewards.mathematics.golds import read_gold
from rljax.rewards.references import gold_text, gold_texts, reference_fields
from rljax.rewards.stacks.table import RULES, Rule
from rljax.rewards.sudoku import read_puzzle
from rljax.rewards.text_metrics.bleu import words_13a
from rljax.rewards.tool_calls import read_call


class ReadGold(NamedTuple):
    """A gold answer as a reward compares it.

    Attributes:
        shown: in a few words.
        rule: how it was read, for counts.
    """

    shown: str
    rule: str


class Refused(NamedTuple):
    """A reference that a reward cannot read."""

    row: int
    reference: Any
    reason: str


class GoldReader(NamedTuple):
    """Reads the golds of a reward.

    Attributes:
        read: reference -> what is compared; raises ValueError that says what is wrong.
        allowed: what a gold may be, for errors and tables.
    """

    read: Callable[[Any], ReadGold]
    allowed: str


def _mathematics(reference: Any) -> ReadGold:
    gold = read_gold(reference)
    return ReadGold(gold.shown, gold.rule)


def _texts(reference: Any) -> ReadGold:
    texts = gold_texts(reference)
    return ReadGold(" | ".join(texts), "text" if len(texts) == 1 else "alternatives")


def _text(reference: Any) -> ReadGold:
    return ReadGold(gold_text(reference), "text")


def _last_line(reference: Any) -> ReadGold:
    text = gold_text(reference)
    before, mark, answer = text.rpartition("####")
    return ReadGold(answer.strip(), "text, after ####" if mark else "text")


def _countdown(reference: Any) -> ReadGold:
    numbers, target = read_countdown(reference, "countdown")
    return ReadGold(f"{target} of {', '.join(map(str, numbers))}", "numbers and target")


def _sudoku(reference: Any) -> ReadGold:
    puzzle, solution = read_puzzle(reference, "sudoku")
    return ReadGold(f"{puzzle} -> {solution}", "puzzle and solution")


def _call(reference: Any) -> ReadGold:
    call, tools = read_call(reference)
    return ReadGold(f"{call.name} of {len(tools)} tools", "tool call")


def _action(reference: Any) -> ReadGold:
    return ReadGold(read_action(reference).type, "action")


def _written(reference: Any) -> ReadGold:
    texts = gold_texts(reference)
    if not all(map(words_13a, texts)):
        raise ValueError("a reference text is empty")
    return ReadGold(" | ".join(texts), "reference text" if len(texts) == 1 else "references")


def _score(reference: Any) -> ReadGold:
    text = gold_text(reference).strip()
    if not text.lstrip("-").isdigit():
        raise ValueError("a score is a whole number")
    return ReadGold(text, "score")


def _instructions(reference: Any) -> ReadGold:
    names = [one.name for one in read_instructions(reference)]
    return ReadGold(", ".join(names), "instructions")


def _tests(reference: Any) -> ReadGold:
    tests = read_tests(reference)
    return ReadGold(tests.shown, tests.rule)


def _of_stack(rule: Rule) -> GoldReader:
    def read(reference: Any) -> ReadGold:
        return ReadGold(" | ".join(rule.read_golds(reference)), rule.gold_kind)

    return GoldReader(read, f"{rule.gold_kind}; a list: each is right")


def _task(*fields: str) -> GoldReader:
    def read(reference: Any) -> ReadGold:
        task, _ = reference_fields(reference, fields, "of a task")
        return ReadGold(str(task), "problem of a task")

    return GoldReader(read, f"made by the task: {' and '.join(fields)}")


# Rewards that are not here read no gold.
GOLD_READERS: dict[str, GoldReader] = {
    "math": GoldReader(
        _mathematics,
        "a number, LaTeX, words or letters, alone, after ####, in \\boxed{} or after "
        '"The answer is"; a list: each is right',
    ),
    "exact_match": GoldReader(_texts, "a text or a number; a list: each is right"),
    "math_string": GoldReader(_text, "LaTeX, or a solution with its answer in a box"),
    "tagged_correctness": GoldReader(_last_line, "a text, or a solution with #### before it"),
    **dict.fromkeys(
        ("countdown", "countdown_boxed"),
        GoldReader(_countdown, '{"numbers": [...], "target": t}, or that as JSON text'),
    ),
    **dict.fromkeys(
        ("sudoku", "sudoku_cells", "sudoku_valid_grid"),
        GoldReader(_sudoku, '{"puzzle": 16 digits, "solution": 16 digits}, or that as JSON text'),
    ),
    "tool_call": GoldReader(
        _call,
        '{"call": "name(key = value)", "tools": {name: [parameter, ...]}}, or that as JSON text',
    ),
    "shop_action": GoldReader(
        _action,
        '{"type": "click", "name": text}, {"type": "type_and_submit", "name": text, "text": text} '
        'or {"type": "terminate"}, or that as JSON text',
    ),
    **dict.fromkeys(
        ("bleu", "chrf", "rouge"),
        GoldReader(_written, "a text or a number with a word in it; a list: several references"),
    ),
    "judge_pair": GoldReader(_text, "the answer that completions are compared with"),
    "score_agreement": GoldReader(_score, "the gold judge's score, a whole number"),
    "instructions": GoldReader(
        _instructions,
        '{"instruction_id_list": [name, ...], "kwargs": [{...}, ...]}, or that as JSON text',
    ),
    "python_tests": GoldReader(_tests, TESTS_ALLOWED),
    "reasoning_gym": _task("task", "entry"),
    "symbols": _task("task", "facts"),
    **{name: _of_stack(rule) for name, rule in RULES.items()},
}


def read_all(reward: str, references: Iterable[Any]) -> Iterator[ReadGold | Refused]:
    """The gold answers of a reward, in order; equal texts are read once."""
    read = GOLD_READERS[reward].read
    known: dict[str, ReadGold] = {}
    for row, reference in enumerate(references):
        if isinstance(reference, str) and reference in known:
            yield known[reference]
            continue
        try:
            gold = read(reference)
        except ValueError as error:
            yield Refused(row, reference, reason(error))
            continue
        if isinstance(reference, str):
            known[reference] = gold
        yield gold


def check_golds(
    rewards: Iterable[str],
    references: Sequence[Any],
    place: Callable[[int], str],
    field: str = "config.data.reference_column",
) -> dict[str, Counter[str]]:
    """Reads every gold answer with every reward that reads one.

    Args:
        rewards: names, as in `functions.REWARDS`; other names are passed over.
        references: of all rows.
        place: file and row of a reference, for the error.
        field: the config field that names the column.

    Returns:
        For each of these rewards how many golds were read by which rule.

    Raises:
        ValueError: for the first gold that cannot be read; says how many there are.
    """
    counts = {}
    for reward in dict.fromkeys(rewards):
        if reward not in GOLD_READERS:
            continue
        golds = list(read_all(reward, references))
        refused = [gold for gold in golds if isinstance(gold, Refused)]
        if refused:
            raise ValueError(refusal(reward, refused, place, field))
        counts[reward] = Counter(gold.rule for gold in golds)
    return counts


def refusal(
    reward: str, refused: Sequence[Refused], place: Callable[[int], str], field: str
) -> str:
    """One line about the golds that a reward cannot read."""
    first = refused[0]
    given = repr(first.reference)
    given = given if len(given) <= 120 else f"{given[:60]} ... {given[-50:]}"
    more = f"; {len(refused) - 1} more rows cannot be read" if len(refused) > 1 else ""
    return (
        f"{place(first.row)}: the reward {reward!r} cannot read the gold answer {given}: "
        f"{first.reason}; allowed: {GOLD_READERS[reward].allowed}{more} ({field})."
    )


def counted(counts: dict[str, Counter[str]], what: str) -> list[str]:
    """Lines that say how the golds were read.

    Args:
        counts: of `check_golds`.
        what: "training" or "held-out".
    """
    return [
        f"{what} golds as {reward!r} reads them: "
        + ", ".join(f"{count} {rule}" for rule, count in rules.most_common())
        for reward, rules in counts.items()
    ]
