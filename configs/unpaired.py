"""Labelled completions on a published model, one stage: `:METHOD`.

    python launch/train.py --config=configs/unpaired.py:kto \
        --config.model.init_from=FOLDER --config.tokenizer.path=FOLDER \
        --config.preference.data.path=LABELLED.jsonl \
        --config.data.path=TRAIN.jsonl --config.data.heldout_path=HELDOUT.jsonl

LABELLED.jsonl has the columns `prompt`, `completion` and `label` (true or false); a file of pairs
(`prompt`, `chosen`, `rejected`) is read as one completion for each side. For `step_kto` the columns
are `prompt`, `completions` (the steps of one answer), `labels` (of each step) and, where it is
known, `label` (of the whole answer). All else is as in preference.py.
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
    # The paper samples solutions, labels them and trains, three times; its rate and batch were not
    # seen, so these are KTO's.
    "step_kto": dict(batch=completions(64), data=dict(path="configs/examples/steps.jsonl")),
}

get_config = functools.partial(BASE["build"], METHODS)
