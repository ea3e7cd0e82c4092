"""Says what a model folder, or a checkpoint, would be loaded as, and what is wrong with it.

    python launch/inspect.py FOLDER
    python launch/inspect.py WORKDIR[/checkpoints/STAGE[/STEP]] --json

Family, parameters, output matrix, types, positions, beginnings and ends, chat template, special
tokens, vocabulary, memory, what is not read. It reads headers and JSON files only, runs no code of
the folder, and lists all problems that it finds; the exit status is 1 if there are any.
"""

import sys
from os.path import dirname

# This file has the name of a standard module, and Python looks for modules beside a command first.
# Whoever asks for the standard one, in any command of this folder, gets it.
sys.path[:] = [path for path in sys.path if path != dirname(__file__)]
if __name__ == "inspect":
    del sys.modules["inspect"]
    __import__("inspect")
else:
    import argparse
    import json

    from rljax.commands.parser import Parser, named
    from rljax.commands.run import run
    from rljax.commands.statuses import Status
    from rljax.training.run.inspection import as_text, inspect


def parser() -> "Parser":
    """The parser of all flags."""
    made = Parser(__doc__)
    made.add_argument("folder", type=named, metavar="FOLDER", help="of a model, or of a checkpoint")
    made.add_argument("--json", action="store_true", help="for programs")
    return made


def show(options: "argparse.Namespace") -> int:
    """Prints what a folder holds; 1 if there are problems."""
    found = inspect(options.folder)
    if options.json:
        shown = {"path": found.path, **found.sections, "problems": found.problems}
        print(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        print(as_text(found))
    return Status.FAILED if found.problems else Status.DONE


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), show, arguments)


if __name__ == "__main__":
    sys.exit(main())
