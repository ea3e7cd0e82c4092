"""Folders whose files or keys disagree: the choice of transformers 5, said in one line."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from pretrained_cases import FIXTURES, scores_of

from rljax.models.config import ModelConfig
from rljax.models.network import Network
from rljax.models.pretrained import check_tensors, load_params, read_config, save_pretrained
from rljax.models.pretrained.config_json import parse
from rljax.models.pretrained.load import described_with_files
from rljax.models.pretrained.tensor_files import INDEX, SINGLE, stored_tensors, write_file
from rljax.models.rotary import frequencies

pytestmark = pytest.mark.contract


def values_of(name: str) -> dict:
    return json.loads((FIXTURES / name / "config.json").read_text())


@pytest.fixture
def folder_of(tmp_path):
    """folder_of(fixture, tensors, **keys): a copy with more tensors and other keys."""

    def make(name: str, tensors: dict[str, np.ndarray] | None = None, **keys) -> Path:
        (tmp_path / "config.json").write_text(json.dumps(values_of(name) | keys))
        stored = {n: np.array(t.map()) for n, t in stored_tensors(FIXTURES / name).items()}
        stored |= tensors or {}
        shapes = {name: tensor.shape for name, tensor in stored.items()}
        write_file(tmp_path / SINGLE, shapes, stored.values(), "F32")
        return tmp_path

    return make


def remarks_of(values: dict) -> str:
    return "\n".join(parse(values)[2])


def test_adapters_beside_a_model_are_refused(folder_of):
    folder = folder_of("llama3_tied")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "other"}')
    with pytest.raises(ValueError, match=r"adapter_config.json: the folder holds adapters.*Merge"):
        read_config(folder)


# --- one output matrix or two --------------------------------------------------------------------


def test_another_output_in_the_file_is_read(folder_of, one_device, capsys):
    """vllm#51063: tie_word_embeddings is true, and the file has a head that differs."""
    own = np.random.default_rng(0).standard_normal((61, 24)).astype(np.float32)
    folder = folder_of("llama3_tied", {"lm_head.weight": own})
    config = read_config(folder)
    read_config(folder)
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"note: {folder}: config.json says") and "tie_word_embeddings" in said
    assert not config.tied_embeddings
    network = Network.create(config)
    check_tensors(folder, network)
    params = load_params(folder, network, one_device)
    np.testing.assert_array_equal(params["output"][:61], own)
    save_pretrained(folder / "out", network, params, source=folder)
    assert not json.loads((folder / "out/config.json").read_text())["tie_word_embeddings"]
    assert not read_config(folder / "out").tied_embeddings
    assert read_config(folder, head="value").head == "value"  # which has no output


def test_an_equal_output_in_the_file_is_the_embedding(folder_of, capsys):
    (embedding,) = (t for n, t in stored_tensors(FIXTURES / "llama3_tied").items() if "embed" in n)
    folder = folder_of("llama3_tied", {"lm_head.weight": np.array(embedding.map())})
    assert read_config(folder).tied_embeddings and not capsys.readouterr().err


@pytest.mark.parametrize("keys", [{"tie_word_embeddings": False}, {"tie_word_embeddings": None}])
def test_no_output_in_the_file_of_an_untied_model_is_refused(folder_of, keys):
    folder = folder_of("llama3_tied", **keys)
    with pytest.raises(ValueError, match="lm_head.weight: missing"):
        check_tensors(folder, Network.create(read_config(folder)))


@pytest.mark.parametrize("different", [True, False])
def test_outputs_are_those_of_transformers(folder_of, one_device, different):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    stored = stored_tensors(FIXTURES / "llama3_tied")["model.embed_tokens.weight"].map()
    folder = folder_of("llama3_tied", {"lm_head.weight": stored[::-1] if different else stored})
    network = Network.create(read_config(folder))
    params = load_params(folder, network, one_device)
    tokens = np.arange(10, dtype=np.int32)[None]
    rows = (tokens, tokens, np.ones_like(tokens))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        theirs = model(torch.tensor(tokens, dtype=torch.long)).logits.numpy()
    np.testing.assert_allclose(scores_of(network, params, rows), theirs, atol=2e-5)


# --- other files and keys ------------------------------------------------------------------------


def test_a_single_file_beside_an_index_is_said(folder_of):
    folder = folder_of("qwen3")
    assert not described_with_files(folder).remarks
    shutil.copyfile(folder / SINGLE, folder / "1.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": "1.safetensors"}}))
    assert described_with_files(folder).remarks == (
        "model.safetensors is read, model.safetensors.index.json and its files are not, as in "
        "transformers.",
    )


@pytest.mark.parametrize(
    "keys, remark",
    [
        (dict(rope_scaling=dict(rope_type="linear", factor=2.0)), "rope_scaling={'rope_type'"),
        (dict(rope_theta=7.0), "rope_theta=100.0 of the rope parameters is read, not 7.0"),
        (dict(rope_parameters=dict(rope_type="linear", type="yarn", factor=2.0)),
         "rope_type='linear' is read, type='yarn' is not"),
        (dict(rope_parameters=dict(rope_type="yarn", factor=4.0, attn_factor=0.878)),
         "keys of the yarn rope parameters that are not read: {'attn_factor': 0.878}"),
        (dict(rope_parameters=dict(rope_type="default", factor=4.0)),
         "keys of the default rope parameters that are not read: {'factor': 4.0}"),
        (dict(dtype="float16", torch_dtype="bfloat16"), "dtype='float16' and torch_dtype='bfl"),
        (dict(auto_map={"AutoModel": "own.Own"}), "auto_map names code, which is never run"),
        (dict(residual_multiplier=0.22, logits_scaling=8.0),
         "keys that this family does not read: logits_scaling=8.0, residual_multiplier=0.22"),
        (dict(attn_logit_softcapping=50.0), "does not read: attn_logit_softcapping=50.0"),
        (dict(rope_parameters=dict(rope_type="yarn", factor=4.0,
                                   original_max_position_embeddings=64)),
         "the yarn scaling stretches max_position_embeddings=64 to 256 positions"),
    ],
)  # fmt: skip
def test_a_choice_is_said(keys, remark):
    assert remark in remarks_of(values_of("qwen3") | keys)


@pytest.mark.parametrize("name", sorted(path.name for path in FIXTURES.iterdir() if path.is_dir()))
def test_what_agrees_is_not_said(name):
    assert "stretches" in remarks_of(values_of(name)) or not remarks_of(values_of(name))


@pytest.mark.parametrize("method", ["gptq", "awq", "fp8", "bitsandbytes"])
def test_quantised_weights_are_refused_with_a_way_on(method):
    with pytest.raises(ValueError, match=f"quantization_config='{method}'.*dequantize"):
        parse(values_of("qwen3") | {"quantization_config": {"quant_method": method}})


@pytest.mark.parametrize(
    "name, keys, limit",
    [
        ("qwen3", dict(max_position_embeddings=16), 16),
        ("qwen3", dict(max_position_embeddings=None), 0),
        ("llama_linear", dict(max_position_embeddings=64), 256),
        ("qwen2_yarn", dict(max_position_embeddings=16), 64),
        ("llama3_tied", dict(max_position_embeddings=64), 64),
        ("gemma3_text", dict(max_position_embeddings=64), 64),
    ],
)  # fmt: skip
def test_positions_with_their_scaling(name, keys, limit):
    values = values_of(name) | keys
    assert ModelConfig(**parse(values)[1]).max_positions == limit


# --- numbers that no model has -------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        dict(num_hidden_layers=10**9),
        dict(num_hidden_layers=0),
        dict(num_hidden_layers=-2),
        dict(hidden_size=-24),
        dict(hidden_size=10**12),
        dict(vocab_size=2**40),
        dict(num_attention_heads=0),
        dict(num_key_value_heads=-1),
        dict(head_dim=0),
        dict(rms_norm_eps=1e308),
        dict(rms_norm_eps=float("nan")),
        dict(rms_norm_eps=-1.0),
        dict(rope_parameters=None, rope_theta=0),
        dict(rope_parameters=None, rope_theta=float("inf")),
        dict(rope_parameters=None, rope_theta=-1e4),
        dict(rope_parameters=None, rope_theta=10**400),
        dict(rope_parameters=dict(rope_type="linear", factor=float("inf"))),
        dict(rope_parameters=dict(rope_type="linear", factor=0.5)),
        dict(rope_parameters=dict(rope_type="yarn", factor=2.0, beta_fast=-1.0)),
        dict(use_sliding_window=True, sliding_window=-3, max_window_layers=0, layer_types=None),
        dict(max_position_embeddings=-5),
        dict(architectures=["Qwen3ForSequenceClassification"], num_labels=2**40, id2label=None),
    ],
    ids=str,
)
def test_numbers_that_no_model_has_are_refused(tmp_path, keys):
    (tmp_path / "config.json").write_text(json.dumps(values_of("qwen3") | keys))
    with pytest.raises(ValueError) as caught:
        read_config(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/config.json: ") and len(message.splitlines()) == 1


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe{}", b'{"a": ' + b"[" * 10**5, b"[1]"])
def test_a_config_that_is_no_object_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(ValueError, match="config.json (is not JSON|must hold a JSON object)"):
        read_config(tmp_path)


# --- rotary positions, as transformers computes them ---------------------------------------------

SHAPE = dict(vocab_size=32, hidden_size=32, intermediate_size=16, num_attention_heads=2,
             num_key_value_heads=1, head_dim=16, max_position_embeddings=128)  # fmt: skip


def random_rope(rng: random.Random) -> dict:
    """Keys of rotary parameters, with such that disagree or mean nothing."""
    kinds = ("default", "linear", "llama3", "yarn")
    found = {"factor": rng.choice([1.0, 2.0, 4.0])}
    for key, values, share in (
        ("rope_type", kinds, 0.7),
        ("type", kinds, 0.3),
        ("original_max_position_embeddings", (32, 64), 0.6),
        ("rope_theta", (500.0, 1000.0), 0.3),
        ("attention_factor", (1.3,), 0.2),
        ("attn_factor", (0.8,), 0.2),
        ("mscale", (0.7,), 0.3),
        ("mscale_all_dim", (1.1,), 0.3),
        ("beta_fast", (20.0,), 0.2),
    ):
        if rng.random() < share:
            found[key] = rng.choice(values)
    if rng.random() < 0.8:
        found |= {"low_freq_factor": 1.0, "high_freq_factor": rng.choice([2.0, 4.0])}
    return found


def random_config(rng: random.Random) -> dict:
    kind = rng.choice(["llama", "qwen3", "gemma3_text", "olmo2", "mistral", "qwen2"])
    values = SHAPE | {"model_type": kind, "num_hidden_layers": 6 if "gemma" in kind else 1}
    if rng.random() < 0.5:
        values["rope_theta"] = rng.choice([10_000.0, 2000.0])
    if rng.random() < 0.5:
        values["rope_scaling"] = rng.choice([None, random_rope(rng), random_rope(rng)])
    if kind == "gemma3_text":
        if rng.random() < 0.5:
            values["rope_local_base_freq"] = 77.0
        if rng.random() < 0.5:
            local = {"rope_type": "default", "rope_theta": 50.0}
            both = {"full_attention": random_rope(rng), "sliding_attention": local}
            values["rope_parameters"] = both
    elif rng.random() < 0.5:
        values["rope_parameters"] = random_rope(rng)
    return values


@pytest.mark.parametrize("seed", range(4))
def test_rotary_positions_are_those_of_transformers(seed):
    """Every layout and every contradiction, as transformers 5 resolves them."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers", minversion="5.0")
    rng, compared = random.Random(seed), 0
    for _ in range(40):
        values = random_config(rng)
        their_config = json.loads(json.dumps(values))  # which transformers changes
        try:
            config = transformers.AutoConfig.for_model(**their_config)
            rotary = transformers.AutoModelForCausalLM.from_config(config).model.rotary_emb
        except (KeyError, TypeError):  # a key is missing
            with pytest.raises(ValueError):
                parse(values)
            continue
        fields = parse(values)[1]
        ours = [frequencies(fields["rope_base"], 16, fields["rope_scaling"])]
        names = [""]
        if values["model_type"] == "gemma3_text":
            ours.append(frequencies(fields["local_rope_base"], 16, None))
            names = ["full_attention_", "sliding_attention_"]
        for (found, factor), name in zip(ours, names, strict=True):
            theirs = getattr(rotary, f"{name}inv_freq").numpy()
            np.testing.assert_allclose(found, theirs, rtol=2e-6, err_msg=str(values))
            assert factor == pytest.approx(getattr(rotary, f"{name}attention_scaling")), values
        compared += 1
    assert compared > 30
