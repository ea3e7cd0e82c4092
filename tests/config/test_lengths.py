"""Rows that are longer than the positions of the model are refused before anything compiles."""

import dataclasses

import numpy as np
import pytest

from rljax.config.lengths import check_positions
from rljax.config.load import apply_overrides, complete
from rljax.config.model import resolve_model
from rljax.config.validate import validate
from rljax.models.config import ModelConfig
from rljax.sampling.distribution import TokenFilter
from rljax.training.run.engines import with_text_only

SHAPE = dict(vocab_size=16, layers=1, width=8, heads=2, kv_heads=1, head_dim=4, mlp_width=16)


def stages_of(method: str, *words: str):
    section = {"method": method, "data": {"path": "x"}} if method == "dpo" else {"method": method}
    tasks = ({"name": "chain_sum"},)
    config = complete({"stages": ("s",), "s": section, "data": {"tasks": tasks}})
    return validate(apply_overrides(config, [f"--config.s.{word}" for word in words]))


@pytest.mark.parametrize(
    "method, longest, field",
    [
        ("grpo", 10 + 64, "config.s.sampling.max_new_tokens"),
        ("dpo", 10 + 64, "config.s.data.max_completion_tokens"),
        ("jepo", 10 + 64 + 16, "config.s.sampling.max_new_tokens . config.s.data.max_answer_tok"),
    ],
)
def test_prompt_and_completion_fit_into_the_positions(method, longest, field):
    stages, limit = stages_of(method), ModelConfig(**SHAPE, max_positions=longest)
    check_positions(stages, limit, 10, 0)
    check_positions(stages, dataclasses.replace(limit, max_positions=0), 10**6, 10**6)
    shorter = dataclasses.replace(limit, max_positions=longest - 1)
    message = f"data.max_prompt_tokens . {field}.*can have {longest} tokens.*{longest - 1} positio"
    with pytest.raises(ValueError, match=message) as caught:
        check_positions(stages, shorter, 10, 0)
    assert "max_position_embeddings" in str(caught.value)
    assert "config.model.max_positions" in str(caught.value)


def test_evaluation_fits_too():
    model = ModelConfig(**SHAPE, max_positions=20)
    check_positions((), model, 12, 8)
    with pytest.raises(ValueError, match=r"config.evaluation.max_new_tokens\) can have 21 tokens"):
        check_positions((), model, 12, 9)


def test_rows_of_packed_examples_are_looked_at_when_they_are_read():
    check_positions(stages_of("sft"), ModelConfig(**SHAPE, max_positions=12), 4, 8)


@pytest.mark.parametrize("limit", [0, 64])
def test_the_limit_is_a_field_of_the_model(limit):
    model = complete({"stages": ("s",), "s": {"method": "sft"}, "model": {"max_positions": limit}})
    assert resolve_model(model.model, 16).max_positions == limit


@pytest.mark.parametrize("causal", [True, False])
def test_stages_that_sample_leave_out_rows_without_a_text(causal):
    samplable, model = np.arange(16) < 13, ModelConfig(**SHAPE, causal=causal)
    (online,), (offline,) = stages_of("grpo"), stages_of("dpo")
    found = with_text_only(online, model, samplable)
    assert found.token_filter == dataclasses.replace(online.token_filter, textless=((13, 16),))
    assert found.as_dict() == online.as_dict()  # it follows from tokenizer and model
    assert with_text_only(offline, model, samplable) is offline
    assert with_text_only(online, model, np.ones(16, bool)).token_filter == TokenFilter()


@pytest.mark.parametrize("forbidden", [range(16), range(13)])
def test_a_stage_that_may_sample_nothing_is_refused(forbidden):
    (stage,) = stages_of("grpo", f"sampling.forbidden_tokens={tuple(forbidden)}".replace(" ", ""))
    with pytest.raises(ValueError, match=r"at least one.*sampling.forbidden_tokens"):
        with_text_only(stage, ModelConfig(**SHAPE), np.arange(16) < 13)
