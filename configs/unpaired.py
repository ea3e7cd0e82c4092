"""Labelled completions on a published model, one stage: `:METHOD`.

    python launch/train.py --config=configs/unpaired.py:kto \
        --config.model.init_from=FOLDER --config.tokenizer.path=FOLDER \
        --config.preference.data.path=LABELLED.jsonl \
        --config.data.path=TRAIN.jsonl --config.data.heldout_path=HELDOUT.jsonl

LABELLED.jsonl has the columns `prompt`, `completion` and `label` (true or false); a file of pairs
(`prompt`, `chosen`, `rejected`) is read as one completion for each side. All else is as in
preference.py.
"""

import functools
import runpy
from pathlib import Path

BASE = runpy.run_path(str(Path(__file__).with_name("preference.py")))


def completions(count: int) -> dict[str, int]:
    """The batch of an update."""
    return dict(sequences_per_update=count, sequences_per_micro_batch=min(count, 16))


METHODS = {
    # 1e-6 from an advised range of 5e-7 to 5e-6, and 16 to 128 completions.
    "kto": dict(batch=completions(64)),
    "apo_zero_unpaired": dict(batch=completions(64), optimizer=dict(learning_rate=2e-7)),
    "bco": dict(optimizer=dict(learning_rate=5e-7)),
}

get_config = functools.partial(BASE["build"], METHODS)
