"""Held-out pairs of a preference stage, in updates of several micro-batches."""

import json

import numpy as np
import pytest

from rljax.training.families.preference import Preference


@pytest.fixture
def held_out(pieces, tmp_path):
    """held_out(override, ...): metrics of seven held-out pairs before training."""
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"{n}+1=", "chosen": f"{n + 1}", "rejected": f"{n}no"} for n in range(7)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def judge(*overrides: str) -> dict[str, float]:
        words = [f"data.heldout_path={path}", "batch.sequences_per_update=16", *overrides]
        made = pieces("dpo_file", *(f"--config.dpo_file.{word}" for word in words))
        family = Preference(made.context, made.stage, made.params, 1)
        return family.heldout(made.params, made.params, 0.1)

    return judge


@pytest.mark.parametrize("share", [True, False])
def test_micro_batches_change_no_metric(held_out, share):
    share = f"batch.share_prompts={share}"
    whole = held_out(share, "batch.sequences_per_micro_batch=16")
    assert whole["ranking_accuracy"] == whole["reference_ranking_accuracy"]
    for size in (4, 2):
        split = held_out(share, f"batch.sequences_per_micro_batch={size}")
        assert split.keys() == whole.keys()
        np.testing.assert_allclose(list(split.values()), list(whole.values()), rtol=1e-5)


def test_a_file_that_is_missing_is_that_of_held_out_pairs(held_out):
    with pytest.raises(ValueError, match=r"config\.dpo_file\.data\.heldout_path"):
        held_out("data.heldout_path=nowhere.jsonl")


def test_the_first_rows_alone_may_judge(held_out):
    whole, first = held_out(), held_out("data.heldout_limit=2")
    assert held_out("data.heldout_limit=7") == held_out("data.heldout_limit=9") == whole
    assert first.keys() == whole.keys() and first != whole
