"""What kills on purpose have come to: found.json, as the table of launch/README.md.

An entry of found.json is what `launch/chaos.py --json` wrote, under the words that came before it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOUND = Path(__file__).with_name("found.json")


def as_markdown() -> str:
    """A row for each campaign: kills that held, by signal and phase."""
    campaigns = json.loads(FOUND.read_text(encoding="utf-8"))
    rows = [
        "| `python launch/chaos.py` with | held | runs | processes | signals | killed in |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_row(words, found) for words, found in campaigns.items()),
    ]
    return "\n".join(rows) + "\n"


def _row(words: str, found: Mapping[str, Any]) -> str:
    phases = {name: sum(counts.values()) for name, counts in found["by_phase"].items()}
    differs = "" if found["good"] else f"; {len(found['problems'])} things differ"
    cells = [
        f"`{words}`",
        f"{found['held']} of {found['kills']}{differs}",
        str(found["rounds"]),
        str(found["processes"]),
        _counts(found["by_signal"]),
        _counts(phases),
    ]
    return f"| {' | '.join(cells)} |"


def _counts(of: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(of.items()))
