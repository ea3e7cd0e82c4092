"""The table of rewards for the guide."""

import inspect

from rljax.rewards.functions import REWARDS, Reward, option_defaults
from rljax.rewards.golds import GOLD_READERS


def reward_table() -> str:
    """Name, what it scores, options with their defaults, and what its gold may be; Markdown."""
    rows = [
        ("reward", "what it scores", "options", "gold"),
        ("---",) * 4,
        *((f"`{name}`", _summary(f), _options(f), _gold(name)) for name, f in REWARDS.items()),
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _summary(function: Reward) -> str:
    """The first paragraph of a docstring."""
    paragraph = (inspect.getdoc(function) or "").split("\n\n")[0]
    return _plain(" ".join(paragraph.split()))


def _options(function: Reward) -> str:
    empty = inspect.Parameter.empty
    return ", ".join(
        f"`{name}`" if default is empty else f"`{name}={default!r}`"
        for name, default in option_defaults(function).items()
    )


def _gold(name: str) -> str:
    return _plain(GOLD_READERS[name].allowed) if name in GOLD_READERS else "not read"


def _plain(text: str) -> str:
    """Text in a cell: no column ends, no tag and no mark-up begins."""
    for sign in "\\|<*$":
        text = text.replace(sign, f"\\{sign}")
    return text
