"""Rewrites the generated parts of the documentation.

    python launch/docs.py            writes what has changed, and names it
    python launch/docs.py --check    writes nothing; exit status 1 where something would change

Generated are the blocks between `<!-- NAME -->` and `<!-- /NAME -->` in README.md files, and a card
for each method in rljax/registry/cards/.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from rljax.chaos import found as chaos
from rljax.commands.parser import Parser
from rljax.commands.run import run
from rljax.config import other_names
from rljax.config.markdown import field_tables
from rljax.models import sizes
from rljax.registry.cards import all_cards, read_sources
from rljax.registry.markdown import family_table, method_tables
from rljax.reporting import glossary
from rljax.rewards.markdown import reward_table

ROOT = Path(__file__).parents[1]
CARDS = "rljax/registry/cards"
# (file, name of the block) -> its text.
BLOCKS: dict[tuple[str, str], Callable[[], str]] = {
    ("README.md", "families"): family_table,
    ("rljax/data/README.md", "rewards"): reward_table,
    ("rljax/models/README.md", "sizes"): sizes.as_markdown,
    ("rljax/registry/README.md", "methods"): method_tables,
    ("launch/README.md", "chaos"): chaos.as_markdown,
    ("configs/README.md", "fields"): field_tables,
    ("configs/README.md", "names"): other_names.as_markdown,
    ("rljax/reporting/README.md", "metrics"): glossary.as_markdown,
}


def fill(text: str, name: str, body: str) -> str:
    """A text with a block replaced.

    Raises:
        ValueError: if the text does not hold the block's two marks, each once.
    """
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if text.count(start) != 1 or text.count(end) != 1:
        raise ValueError(f"the marks {start.strip()} and {end} must stand there once each.")
    before, _, rest = text.partition(start)
    return before + start + body + end + rest.partition(end)[2]


def generated(root: Path) -> dict[Path, str | None]:
    """Every file with generated parts and what it should hold; None: the file should not be there.

    Args:
        root: of the repository.
    """
    files: dict[Path, str | None] = {}
    for (path, name), make in BLOCKS.items():
        text = files.get(root / path) or (root / path).read_text()
        files[root / path] = fill(text, name, make())
    files |= dict.fromkeys((root / CARDS).glob("*.md"))
    cards = all_cards(read_sources(root))
    return files | {root / CARDS / f"{name}.md": text for name, text in cards.items()}


def stale(root: Path) -> dict[Path, str | None]:
    """The parts of `generated` that differ from what is there."""
    return {
        path: text
        for path, text in generated(root).items()
        if text != (path.read_text() if path.is_file() else None)
    }


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__)
    made.add_argument(
        "--check", action="store_true", help="write nothing; status 1 where something would change"
    )
    return made


def rewrite(options: argparse.Namespace) -> int:
    """Returns the exit status: 1 if --check finds something to change."""
    changes = stale(ROOT)
    for path, text in changes.items():
        print(path.relative_to(ROOT))
        if options.check:
            continue
        path.parent.mkdir(exist_ok=True)
        if text is None:
            path.unlink()
        else:
            path.write_text(text)
    if not changes:
        print("all generated parts are up to date")
    return int(options.check and bool(changes))


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py); 1 also if --check finds a change."""
    return run(parser(), rewrite, arguments)


if __name__ == "__main__":
    sys.exit(main())
