"""All entries of the laboratory by name; those of another kind of model are one more list here."""

from rljax.laboratory import latent
from rljax.laboratory.entry import Entry

MAKERS = (latent.entries,)


def all_entries() -> dict[str, list[Entry]]:
    """Name -> its entries, one for each number of samples and baseline."""
    found: dict[str, list[Entry]] = {}
    for make in MAKERS:
        for entry in make():
            found.setdefault(entry.name, []).append(entry)
    return found
