"""What a study is: a warm-up for each task, and methods that start from what it has learnt."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from rljax.comparison.orderings import Claim

# These stand among the methods: what they start from, and a network with random weights.
WARMUP, UNTRAINED = "warmup", "untrained"


@dataclasses.dataclass(frozen=True)
class Study:
    """What `run_table` runs.

    Attributes:
        tasks: their names.
        methods: names of what is compared.
        measures: held-out metric -> title of its column; those of other decodings are named
            METRIC@DECODING.
        claims: orderings that papers claim, each `where` a task.
        prepare: (task, folder): writes the task's files.
        warmup_config: (task, folder of the files): config of the warm-up.
        method_config: (task, method, folder of the files, checkpoints to start from, seed).
        start: the stage of the warm-up that methods start from.
        shows_untrained: a network with random weights is evaluated, too.
        decodings: name -> overrides of the config under which a finished run is evaluated again.
    """

    tasks: Collection[str]
    methods: Collection[str]
    measures: Mapping[str, str]
    claims: Sequence[Claim]
    prepare: Callable[[str, Path], None]
    warmup_config: Callable[[str, Path], ConfigDict]
    method_config: Callable[[str, str, Path, Path, int], ConfigDict]
    start: str
    shows_untrained: bool = False
    decodings: Mapping[str, Mapping[str, object]] = dataclasses.field(default_factory=dict)
