"""What a docstring says, as text for the cards: its body, and where paper and code differ."""

import ast
import functools
import importlib.util
import inspect
import itertools
import re
import textwrap
from pathlib import Path

SECTIONS = ("Args:", "Returns:", "Raises:")
# Words of a sentence that sets a paper beside somebody's code, or one library beside another.
DIFFERS = re.compile(
    r"\b(papers?('s)?|authors?'?|scripts?|as (printed|released)|code of"
    r"|(released|reference) (code|implementation)|verl|TRL|tunix|OpenRLHF|open-instruct|AReaL)\b"
)


@functools.cache
def of_module(name: str) -> str:
    """The docstring of a module, which is read and not imported; "" where there is no such file.

    Args:
        name: full, as in "rljax.objectives.kl"; the packages above it are imported.
    """
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        return ""
    return ast.get_docstring(ast.parse(Path(found.origin).read_text())) or ""


def body(text: str) -> str:
    """A docstring up to its first section (`Args:`), without indentation."""
    lines = inspect.cleandoc(text).splitlines()
    end = next((i for i, line in enumerate(lines) if line in SECTIONS), len(lines))
    return "\n".join(lines[:end]).strip()


def as_markdown(text: str) -> str:
    """A docstring's body as Markdown: indented paragraphs become fenced blocks, so they stay."""
    paragraphs = re.split(r"\n\s*\n(?=\S|    )", body(text))
    blocks = []
    for indented, group in itertools.groupby(paragraphs, lambda block: block.startswith("    ")):
        joined = "\n\n".join(group)
        if indented:
            joined = f"```\n{textwrap.dedent(joined)}\n```"
        blocks.append(joined if indented else without_tags(joined))
    return "\n\n".join(blocks)


def without_tags(text: str) -> str:
    """Text in which <answer> is no tag of HTML; what stands in backticks is none anyway."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"<(?=[\w/])", r"\\<", part) for part in parts[::2]]
    return "`".join(parts)


def equations(text: str) -> str:
    """The indented lines of a docstring's body; "" where it has none."""
    lines = [line for line in body(text).splitlines() if line.startswith("    ")]
    return inspect.cleandoc("\n" + "\n".join(lines)) if lines else ""


def arguments(text: str) -> dict[str, str]:
    """What a docstring's `Args` say, one line for each argument."""
    lines = inspect.cleandoc(text).splitlines()
    found: dict[str, str] = {}
    name = ""
    for line in lines[lines.index("Args:") + 1 :] if "Args:" in lines else ():
        if not line.startswith("    "):
            break
        if line.startswith("     "):
            found[name] += " " + line.strip()
        else:
            name, _, meaning = line.strip().partition(": ")
            found[name] = meaning
    return found


def sentences(text: str) -> list[str]:
    """Plain text as sentences. "eq. 7" and "1.5" do not end one."""
    ended = re.split(r"(?<![ (]eq)(?<![ (]vs)(?<!e\.g)(?<!i\.e)(?<!Dr)\.\s+(?=[A-Z(`\"])", text)
    stripped = (part.strip().rstrip(".") for part in ended if part.strip())
    return [part if part.endswith(".)") else f"{part}." for part in stripped]


def differences(text: str) -> list[str]:
    """The sentences of a docstring that set paper and code, or two codes, side by side."""
    # Without equations and tables.
    plain = re.sub(r"(?m)^(    |\|).*\n?", "\n\n", body(text))
    prose = [" ".join(block.split()) for block in re.split(r"\n\s*\n", plain)]
    # A title that only names its paper compares nothing.
    found = [prose[0]] if re.search(r"\bcode\b|as released", prose[0]) else []
    found += [line for block in prose[1:] for line in sentences(block) if DIFFERS.search(line)]
    fields = [
        f"`{name}`: {meaning.rstrip('.')}."
        for name, meaning in arguments(text).items()
        if DIFFERS.search(meaning)
    ]
    return [without_tags(line) for line in found + fields]
