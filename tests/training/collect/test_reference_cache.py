"""What the reference says is read from files: the same numbers, or a refusal that says why."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from rljax import remarks
from rljax.parallel.mesh import make_mesh
from rljax.processes.processes import Processes
from rljax.reporting.files import read_rows
from rljax.training import loop
from rljax.training.collect.reference_cache import write_cache
from rljax.training.families.preference import Preference
from rljax.training.families.unpaired import Unpaired
from rljax.training.run import context as run_context
from tests.training.steps import take_step

PAIRS = [{"prompt": f"{n}+1=", "chosen": f"{n + 1}", "rejected": "no"} for n in range(5)]


@pytest.fixture
def cached(pieces, tmp_path):
    """cached(override, ..., rows=..., folder=...) -> pieces of a stage that keeps a cache."""
    remarks.say_once.cache_clear()

    def make(*overrides: str, rows=PAIRS, folder=tmp_path / "cache"):
        path = tmp_path / "pairs.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        words = [f"data.path={path}", "batch.sequences_per_update=4"]
        words += [f"data.reference_cache={folder}"] if folder else []
        return pieces("dpo_file", *(f"--config.dpo_file.{word}" for word in (*words, *overrides)))

    return make


def family_of(made, params=None) -> Preference:
    return Preference(made.context, made.stage, made.params if params is None else params, 1)


def only_cache(tmp_path):
    (found,) = (tmp_path / "cache").iterdir()
    return found


def test_two_runs_may_write_one_cache(tmp_path):
    place = tmp_path / "made" / "address"
    name, digests = "ref_sequence_logprobs", np.zeros((3, 16), np.uint8)
    batches = [{name: np.full((2, 2), 0.5, np.float32)}, {name: np.ones((1, 2), np.float32)}]
    for _ in range(2):  # the second one finds what the first one wrote
        write_cache(place, {"rows": 1}, digests, batches)
    assert [path.name for path in place.parent.iterdir()] == ["address"]
    kept = np.load(place / f"{name}.npy")
    assert kept.dtype == np.float32 and kept.tolist() == [[0.5, 0.5], [0.5, 0.5], [1.0, 1.0]]


@pytest.mark.parametrize("share", [True, False])
def test_batches_are_the_same_to_the_bit(cached, tmp_path, share):
    share = f"batch.share_prompts={share}"
    plain, made = cached(share, folder=None), cached(share)
    with_cache, without = family_of(made), family_of(plain)
    again = family_of(made)  # from the files
    assert [path.name for path in sorted(only_cache(tmp_path).iterdir())] == [
        "cache.json",
        "ref_sequence_logprobs.npy",
        "rows.npy",
    ]
    # Five pairs by twos: steps cross the end of an epoch.
    for step in (1, 2, 3, 4):
        wanted = take_step(without, plain.state, step)[1].batches[0]
        for family in (with_cache, again):
            found = take_step(family, made.state, step)[1].batches[0]
            assert found.keys() == wanted.keys()
            for name in wanted:
                np.testing.assert_array_equal(found[name], wanted[name])


def test_the_second_time_nothing_is_scored(cached, monkeypatch, capsys):
    made = cached()
    family_of(made)
    monkeypatch.setattr(Preference, "reference_arrays", None)
    take_step(family_of(made), made.state, 1)
    said = capsys.readouterr().err
    assert "the reference scores 5 rows once, for " in said
    assert "the reference's log-probabilities are those of " in said


def test_another_model_has_another_cache(cached, tmp_path):
    made = cached()
    moved = jax.tree.map(lambda leaf: leaf * 2, made.params)
    first, second = family_of(made).cache, family_of(made, moved).cache
    assert len(list((tmp_path / "cache").iterdir())) == 2
    name = "ref_sequence_logprobs"
    assert (first.arrays[name] != second.arrays[name]).all()
    # Files that are one cache are of one model.
    named = cached(folder=sorted((tmp_path / "cache").iterdir())[0])
    refused = 0
    for params in (made.params, moved):
        try:
            family_of(named, params)
        except ValueError as error:
            assert "is of another model: parameters_sha256 is" in str(error)
            assert "config.dpo_file.data.reference_cache" in str(error)
            refused += 1
    assert refused == 1


@pytest.mark.parametrize(
    ("rows", "overrides", "message"),
    [
        ([*PAIRS[:3], {**PAIRS[3], "chosen": "5"}, PAIRS[0]], (), "line 4 is the first of 2 that"),
        (PAIRS[:4], (), "is of 5 rows, and there are 4"),
        (
            PAIRS,
            ("data.max_completion_tokens=9",),
            "layout of rows: max_completion_tokens is 9, not",
        ),
        (PAIRS, ("batch.share_prompts=False",), "share_prompts is False, not True"),
    ],
)
def test_a_cache_of_other_rows_is_refused_before_training(
    cached, tmp_path, rows, overrides, message
):
    family_of(cached("batch.share_prompts=True"))
    overrides = (
        overrides if "batch" in "".join(overrides) else ("batch.share_prompts=True", *overrides)
    )
    made = cached(*overrides, rows=rows, folder=only_cache(tmp_path))
    with pytest.raises(ValueError, match=f"{message}.*reference_cache"):
        Preference.check(made.context, made.stage)
    with pytest.raises(ValueError, match=message):
        family_of(made)


def test_a_damaged_cache_is_refused(cached, tmp_path):
    made = cached()
    family_of(made)
    (only_cache(tmp_path) / "ref_sequence_logprobs.npy").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"ref_sequence_logprobs.npy: .*reference_cache"):
        family_of(made)


def test_a_method_without_a_reference_has_nothing_to_keep(cached):
    with pytest.raises(ValueError, match="'simpo' has no frozen reference .*reference_cache"):
        cached("method=simpo")


def test_runs_share_a_cache_and_have_the_same_losses(tiny_config, tmp_path, one_device_runs):
    """The losses and the order of a run without one, to the bit."""
    losses = []
    for name, words in (
        ("without", []),
        ("first", [f"--config.dpo_file.data.reference_cache={tmp_path / 'cache'}"]),
        ("second", [f"--config.dpo_file.data.reference_cache={tmp_path / 'cache'}"]),
    ):
        loop.run(tiny_config("dpo_file", *words), tmp_path / name)
        rows = read_rows(tmp_path / name / "metrics.jsonl")
        kept = [row for row in rows if row["stage"] == "dpo_file" and row["kind"] == "train"]
        losses.append([(row["loss"], row["reward_margin"]) for row in kept])
    assert losses[0] == losses[1] == losses[2] and len(losses[0]) == 5
    assert len(list((tmp_path / "cache").iterdir())) == 1


class Second:
    """A channel of two processes, on which the first says whether the cache is there."""

    def __init__(self, there: bool, first_writes) -> None:
        self.there, self.first_writes, self.named = there, first_writes, []

    def exchange(self, name, payload):
        self.named.append(name)
        if name.endswith("written"):
            self.first_writes()
        first = json.dumps([False, self.there]).encode() if name.endswith("is there") else payload
        return [first, payload]


def second_of_two(made, there: bool, first_writes=lambda: None):
    """The pieces as the second process has them, and its channel."""
    channel = Second(there, first_writes)
    context = dataclasses.replace(made.context, processes=Processes(1, 2, channel))
    return made._replace(context=context), channel


def test_only_the_first_process_writes_and_both_read(cached, tmp_path, monkeypatch):
    made, scored = cached(), []
    reference_arrays = Preference.reference_arrays

    def counted(self, *args):
        scored.append(self.context.processes.index)
        return reference_arrays(self, *args)

    monkeypatch.setattr(Preference, "reference_arrays", counted)
    other, channel = second_of_two(made, there=False, first_writes=lambda: family_of(made))
    computed = family_of(other).cache
    assert [name.split()[-1] for name in channel.named] == ["there", "written"]
    # Five pairs by twos: the second process scores its part of all of them before the first writes.
    assert scored == 3 * [1] + 3 * [0]
    other, channel = second_of_two(made, there=True)
    read = family_of(other).cache
    assert [name.split()[-1] for name in channel.named] == ["there"] and len(scored) == 6
    for cache in (computed, read):
        assert isinstance(cache.arrays["ref_sequence_logprobs"], np.memmap)
    np.testing.assert_array_equal(*(c.arrays["ref_sequence_logprobs"] for c in (computed, read)))


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_that_one_process_does_not_see_is_refused(cached, there):
    other, _ = second_of_two(cached(), there)
    with pytest.raises(ValueError, match=r"rows.npy: .*No such file.*reference_cache"):
        family_of(other)


def test_one_device_and_eight_have_one_cache(cached, tmp_path, monkeypatch):
    words = "batch.sequences_per_update=16", "batch.share_prompts=True"
    one = family_of(cached(*words))
    monkeypatch.setattr(run_context, "make_mesh", make_mesh)  # of all devices again
    made = cached(*words)
    assert made.context.mesh.size == 8
    read = family_of(made)
    only_cache(tmp_path)  # the address is the same
    scored = family_of(cached(*words, folder=tmp_path / "other"))
    name = "ref_sequence_logprobs"
    np.testing.assert_array_equal(read.cache.arrays[name], one.cache.arrays[name])
    np.testing.assert_allclose(scored.cache.arrays[name], one.cache.arrays[name], atol=1e-5)


@pytest.mark.parametrize("method", ["kto", "bco"])
def test_labelled_completions_are_the_same_to_the_bit(pieces, tmp_path, method):
    words = [f"method={method}", "batch.sequences_per_update=6"]
    words = [f"--config.kto.{word}" for word in words]
    plain = pieces("kto", *words)
    made = pieces("kto", *words, f"--config.kto.data.reference_cache={tmp_path / 'cache'}")
    families = [Unpaired(each.context, each.stage, each.params, 1) for each in (plain, made, made)]
    assert only_cache(tmp_path)
    moved = jax.tree.map(lambda leaf: leaf * 1.1, made.params)
    for step in (1, 2):
        wanted, *others = (
            take_step(family, made.state.replace(params=moved), step)[1].batches[0]
            for family in families
        )
        for found in others:
            assert found.keys() == wanted.keys()
            for name in wanted:
                np.testing.assert_array_equal(found[name], wanted[name])
