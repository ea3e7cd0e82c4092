"""What the README says of methods that choose their problems is what was found."""

import csv
from pathlib import Path

from rljax.comparison import summarise

ROOM = Path(__file__).parents[2] / "rljax/comparison"
COLUMNS = (
    "end_groups_without_signal [share]",
    "last_update [updates]",
    "end_explained_variance [1]",
)


def test_the_readme_shows_what_was_found():
    text = (ROOM / "README.md").read_text()
    assert summarise([ROOM / "lengths", ROOM / "lengths/updates"]) in text
    for row in csv.DictReader((ROOM / "lengths/table.csv").open(newline="")):
        share, updates, explained = (row[name] for name in COLUMNS)
        cells = [row["label"], f"{1 - float(share):.0%}", f"{float(updates):.0f}"]
        cells.append(f"{float(explained):.2f}" if explained else "-")
        assert f"| {' | '.join(cells)} |" in text
