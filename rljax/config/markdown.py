"""Every config field as tables, for configs/README.md."""

from collections.abc import Iterator

from rljax.config.fields import Field, Section
from rljax.config.schema import ROOT
from rljax.config.schema_stage import STAGE


def field_tables() -> str:
    """One table for each section, the stage's sections last.

    The fields of `objective` are left out: which of them there are depends on the method.
    """
    root = {name: entry for name, entry in ROOT.items() if isinstance(entry, Field)}
    stage = {name: entry for name, entry in STAGE.items() if isinstance(entry, Field)}
    tables = [("config", root)]
    tables += [(f"config.{name}", entry) for name, entry in ROOT.items() if name not in root]
    tables += [("config.STAGE", stage)]
    tables += [
        (f"config.STAGE.{name}", entry)
        for name, entry in STAGE.items()
        if name not in stage and name != "objective"
    ]
    return "\n".join(f"**`{title}`**\n\n{_table(section)}" for title, section in tables)


def _table(section: Section) -> str:
    lines = ["| field | default | meaning |", "| --- | --- | --- |"]
    lines += [
        f"| `{name}` | {_default(field)} | {_meaning(field)} |" for name, field in _flat(section)
    ]
    return "\n".join(lines) + "\n"


def _flat(section: Section, before: str = "") -> Iterator[tuple[str, Field]]:
    for name, entry in section.items():
        if isinstance(entry, Field):
            yield before + name, entry
        else:
            yield from _flat(entry, f"{before}{name}.")


def _default(field: Field) -> str:
    return "-" if field.default is None else f"`{field.default!r}`"


def _meaning(field: Field) -> str:
    text = field.doc.replace("|", r"\|")
    if field.choices:
        text += f"; one of {', '.join(f'`{choice!r}`' for choice in field.choices)}"
    return "; ".join([text, *_limits(field)])


def _limits(field: Field) -> list[str]:
    rules = (
        ("at least", field.minimum),
        ("more than", field.above),
        ("at most", field.maximum),
        ("less than", field.below),
    )
    return [f"{rule} {_short(limit)}" for rule, limit in rules if limit is not None]


def _short(limit: float) -> str:
    """Powers of two are known by their exponents."""
    whole = int(limit)
    for power, text in ((whole, ""), (whole + 1, " - 1")):
        if whole == limit and power >= 2**12 and power.bit_count() == 1:
            return f"2^{power.bit_length() - 1}{text}"
    return f"{limit:g}"
