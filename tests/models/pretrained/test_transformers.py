"""What we write, transformers reads: the same scores. Skipped where it is not installed."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from pretrained_cases import CASES, scores_of

from rljax.models.config import ModelConfig
from rljax.models.network import Network
from rljax.models.pretrained import load_params, read_config, save_pretrained

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

# Those whose code is part of transformers.
KNOWN = [name for name in CASES if name not in ("llada", "dream")]


def their_scores(folder: Path, rows: tuple) -> np.ndarray:
    """What from_pretrained computes, and nothing may be missing or too much."""
    config = json.loads((folder / "config.json").read_text())
    kind = getattr(transformers, config["architectures"][0])
    model, info = kind.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info[problem], (problem, info[problem])
    tokens, positions, segments = (torch.tensor(np.asarray(part)).long() for part in rows)
    with torch.no_grad():
        output = model.eval()(tokens, attention_mask=segments, position_ids=positions)
    return output.logits.numpy()


def assert_same(found: np.ndarray, expected: np.ndarray, rows: tuple) -> None:
    """On real tokens."""
    assert found.shape == expected.shape
    real = np.asarray(rows[2]) > 0 if found.ndim == 3 else slice(None)
    np.testing.assert_allclose(found[real], expected[real], atol=1e-4)


@pytest.mark.parametrize("name", KNOWN)
def test_the_folder_loads_with_the_same_scores(load_case, tmp_path, name):
    case = load_case(name)
    # 20 kB a file: several of them. Without a source the config.json is all ours.
    save_pretrained(
        tmp_path / "own",
        case.network,
        case.params,
        max_shard_bytes=20_000,
        more_config={"pad_token_id": 0},
    )
    assert len(list((tmp_path / "own").glob("model-*-of-*.safetensors"))) > 1
    assert_same(their_scores(tmp_path / "own", case.rows), case.theirs.scores, case.rows)
    save_pretrained(tmp_path / "merged", case.network, case.params, source=case.folder)
    assert_same(their_scores(tmp_path / "merged", case.rows), case.theirs.scores, case.rows)


@pytest.mark.parametrize("head", ["value", "process_reward", "reward"])
def test_heads_that_we_made(load_case, one_device, tmp_path, head):
    case = load_case("qwen3")
    network = Network.create(read_config(case.folder, head=head))
    params = load_params(case.folder, network, one_device, key=jax.random.key(0))
    scores = np.asarray(scores_of(network, params, case.rows))
    save_pretrained(tmp_path / "out", network, params, source=case.folder)
    assert_same(their_scores(tmp_path / "out", case.rows), scores, case.rows)
    again = read_config(tmp_path / "out", head=head)
    assert again == network.config
    jax.tree.map(
        np.testing.assert_array_equal, load_params(tmp_path / "out", network, one_device), params
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_type_of_the_files_is_a_choice(load_case, tmp_path, dtype):
    case = load_case("llama3_tied")
    save_pretrained(tmp_path / "out", case.network, case.params, source=case.folder, dtype=dtype)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.dtype == getattr(torch, dtype)
    ours = np.asarray(case.params["final_norm"]["scale"].astype(dtype).astype("float32"))
    np.testing.assert_array_equal(model.model.norm.weight.detach().float().numpy(), ours)


def test_a_model_from_scratch_loads(one_device, tmp_path):
    config = ModelConfig(
        vocab_size=259, layers=2, width=16, heads=4, kv_heads=2, head_dim=8, mlp_width=24
    )
    network = Network.create(config)
    params = network.init(jax.random.key(3), one_device)
    save_pretrained(tmp_path / "out", network, params)
    tokens = np.arange(12, dtype=np.int32).reshape(2, 6)
    rows = (tokens, np.broadcast_to(np.arange(6), (2, 6)), np.ones((2, 6), np.int32))
    assert_same(
        their_scores(tmp_path / "out", rows), np.asarray(scores_of(network, params, rows)), rows
    )
