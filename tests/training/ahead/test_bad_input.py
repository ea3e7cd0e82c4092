"""Settings of a sampler ahead that cannot work: one line each, before anything compiles."""

from types import SimpleNamespace

import pytest

from rljax.config.asynchronous import corrected_methods
from rljax.config.load import load_config
from rljax.config.validate import validate
from rljax.training.run.meshes import split_devices
from tests.training.conftest import CONFIG

WORKERS, AHEAD = "--config.scoring.workers=1", "--config.asynchronous.max_staleness=2"
TIS = "--config.grpo.method=tis"
PIECES = "--config.asynchronous.partial_tokens=2"

REFUSED = {
    "no correction": (
        "grpo",
        (AHEAD, WORKERS),
        r"'grpo' has no correction.*aipo.*tis.*config\.grpo\.objective\.correction",
    ),
    "a short queue": (
        "grpo",
        (AHEAD, WORKERS, TIS, "--config.asynchronous.queue_steps=1"),
        r"queue_steps=1 is shorter than max_staleness=2.*config\.asynchronous\.queue_steps",
    ),
    "evidence": (
        "jepo",
        (AHEAD, WORKERS),
        r"method 'jepo' is of the family 'evidence'.*policy_gradient \(config\.jepo\.method",
    ),
    "nothing is sampled": (
        "dpo_file",
        (AHEAD, WORKERS),
        r"No stage samples.*'warmup' \(sft\), 'dpo_file' \(dpo\).*config\.asynchronous",
    ),
    "values of prefixes": (
        "grpo",
        (AHEAD, WORKERS, "--config.grpo.method=vineppo"),
        r"'grpo' cannot sample ahead: advantage='\w+'.*config\.grpo\.objective\.advantage",
    ),
    "a reward model": (
        "rlhf",
        (AHEAD, WORKERS, "--config.ppo.objective.correction=truncated"),
        r"'ppo' cannot sample ahead: its reward model.*config\.ppo\.models\.reward",
    ),
    "scores in the main thread": (
        "grpo",
        (AHEAD, TIS),
        r"workers=0 scores in the main thread.*config\.scoring\.workers",
    ),
    "a schedule without a sampler ahead": (
        "grpo",
        ("--config.asynchronous.schedule=latest",),
        r"schedule='latest' is never read.*config\.asynchronous\.schedule",
    ),
    "a folder that nothing passes through": (
        "grpo",
        (AHEAD, WORKERS, TIS, "--config.asynchronous.transfer_folder=/tmp/x"),
        r"transfer_folder='/tmp/x' is never read with transfer='direct'",
    ),
    "pieces without newer weights": (
        "grpo",
        (WORKERS, TIS, PIECES, "--config.asynchronous.max_staleness=1"),
        r"partial_tokens=2 with max_staleness=1.*schedule='latest'",
    ),
    "pieces and a filter of groups": (
        "grpo",
        (AHEAD, WORKERS, TIS, PIECES, "--config.grpo.objective.group_filter=with_signal"),
        r"pauses whole completions, and group_filter='\w+'.*config\.grpo\.objective",
    ),
    "pieces and a greedy baseline": (
        "grpo",
        (
            *(AHEAD, WORKERS, PIECES, "--config.grpo.method=remax"),
            "--config.grpo.objective.correction=truncated",
            "--config.grpo.batch.sequences_per_update=32",
        ),
        r"compares them with a greedy one.*config\.asynchronous\.partial_tokens",
    ),
    "a negative staleness": (
        "grpo",
        ("--config.asynchronous.max_staleness=-1",),
        r"max_staleness",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_in_one_line(case, tiny_folder):
    variant, overrides, wanted = REFUSED[case]
    with pytest.raises(ValueError, match=wanted) as error:
        validate(load_config(f"{CONFIG}:{variant}", overrides))
    assert "\n" not in str(error.value)


ACCEPTED = {
    "a correction of the method": (TIS,),
    "a correction of the config": ("--config.grpo.objective.correction=zeroed",),
    "a ratio against the sampler": ("--config.grpo.objective.denominator=behavior",),
    "to be compared": ("--config.asynchronous.allow_uncorrected=True",),
    "a longer queue": (TIS, "--config.asynchronous.queue_steps=5"),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_it_is_accepted(case, tiny_folder):
    validate(load_config(f"{CONFIG}:grpo", (AHEAD, WORKERS, *ACCEPTED[case])))


def test_lag_0_needs_no_correction(tiny_folder):
    validate(load_config(f"{CONFIG}:grpo", (WORKERS, "--config.asynchronous.sampler_devices=1")))


def test_methods_with_a_correction_are_those_for_other_samplers():
    """All rows of off_policy.py but those of demonstrations."""
    assert corrected_methods() == [
        *("aipo", "areal", "geo_rs", "icepop", "m2po", "mis", "pipeline_rl", "prime_rl"),
        *("prime_rl_ipo", "tis"),
    ]


def test_all_devices_cannot_sample(pieces):
    with pytest.raises(ValueError, match=r"leaves none to train.*sampler_devices"):
        pieces("grpo", WORKERS, "--config.asynchronous.sampler_devices=64")


def test_every_process_gives_as_many_devices():
    devices = [SimpleNamespace(process_index=process) for process in (0, 0, 0, 1, 1, 1)]
    trainer, sampler = split_devices(devices, 2)
    assert trainer == [*devices[:2], *devices[3:5]] and sampler == [devices[2], devices[5]]
    with pytest.raises(ValueError, match="sampler_devices=3 does not divide over 2 processes"):
        split_devices(devices, 3)
