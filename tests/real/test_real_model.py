"""A published model against transformers: logits, greedy text, export, what `inspect` says.

The measured figures are printed (`pytest -s`).
"""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from rljax.data.tokenizers import load_tokenizer
from rljax.models.pretrained import save_pretrained, stop_token_ids
from rljax.sampling.generate import Generator
from rljax.sampling.options import SamplingOptions
from rljax.training.run.inspection import inspect
from tests.real.conftest import PROMPTS, Ours

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
NEW_TOKENS = 48


def our_logits(model: Ours, tokens: list[int]) -> np.ndarray:
    rows = np.array([tokens], np.int32)

    @jax.jit
    def compute(params, rows):
        module = model.network.bind(params)
        positions = np.arange(rows.shape[1])[None]
        return module.logits(module(rows, positions, np.ones_like(positions)).hidden)

    return np.asarray(compute(model.params, rows))[0]


def their_logits(model, tokens: list[int]) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].float().numpy()


@pytest.fixture(scope="module")
def logits(ours, theirs, tokenizer):
    """{(whose, dtype): [S, V] of each prompt}, one after the other on a padded length."""
    prompts = [tokenizer(text)["input_ids"] for text in PROMPTS]
    length = max(map(len, prompts))
    padded = [(ids + ids[1:] * length)[:length] for ids in prompts]  # one program for all
    return {
        (whose, dtype): np.stack([compute(model(dtype), ids) for ids in padded])
        for whose, compute, model in (
            ("ours", our_logits, ours),
            ("theirs", their_logits, theirs),
        )
        for dtype in ("float32", "bfloat16")
    }


def test_logits_in_float32(logits):
    found, expected = logits["ours", "float32"], logits["theirs", "float32"]
    difference = np.abs(found - expected).max()
    print(f"\nlogits float32: max difference {difference:.2e} of {np.abs(expected).max():.1f}")
    np.testing.assert_array_equal(found.argmax(-1), expected.argmax(-1))
    assert difference < 1e-3


def test_logits_in_bfloat16_are_as_near_to_float32_as_theirs(logits):
    exact = logits["theirs", "float32"]
    ours, theirs = (np.abs(logits[who, "bfloat16"] - exact) for who in ("ours", "theirs"))
    between = np.abs(logits["ours", "bfloat16"] - logits["theirs", "bfloat16"])
    for name, values in (("ours", ours), ("theirs", theirs), ("between", between)):
        print(f"\nlogits bfloat16, {name}: max {values.max():.3f}, mean {values.mean():.4f}")
    assert ours.mean() < 1.5 * theirs.mean() and ours.max() < 2 * theirs.max()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_greedy_text(ours, theirs, folder, tokenizer, one_device, dtype):
    import torch

    model = ours(dtype)
    prompts = [tokenizer(text)["input_ids"] for text in PROMPTS]
    generator = Generator(
        model.network,
        model.params,
        load_tokenizer(folder),
        one_device,
        stop_tokens=stop_token_ids(folder),
    )
    options = SamplingOptions(max_new_tokens=NEW_TOKENS, temperature=0.0)
    found = [each.tokens for (each,) in generator.generate(prompts, options)]
    expected = []
    for ids in prompts:
        with torch.no_grad():
            whole = theirs(dtype).generate(
                torch.tensor([ids]), max_new_tokens=NEW_TOKENS, do_sample=False
            )
        expected.append(tuple(whole[0, len(ids) :].tolist()))
    equal = [agreement(one, other) for one, other in zip(found, expected, strict=True)]
    longest = [max(len(one), len(other)) for one, other in zip(found, expected, strict=True)]
    print(f"\ngreedy {dtype}: equal tokens {equal} of {longest}")
    if dtype == "float32":
        assert equal == longest
    else:  # the texts part where two logits are nearer to each other than bfloat16 can tell
        assert sum(equal) > 0.25 * sum(longest)


def agreement(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many tokens are equal before the first that is not."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def test_an_export_is_the_model_again(ours, theirs, folder, tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers")
    model = ours("float32")
    save_pretrained(tmp_path / "out", model.network, model.params, source=folder)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    for one, other in zip(again.parameters(), theirs("float32").parameters(), strict=True):
        np.testing.assert_array_equal(one.detach().numpy(), other.detach().numpy())
    assert again.generation_config.eos_token_id == theirs("float32").generation_config.eos_token_id
    read = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert read.chat_template == tokenizer.chat_template
    assert read.get_vocab() == tokenizer.get_vocab()
    for name in ("tokenizer.json", "generation_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()
    assert inspect(tmp_path / "out").problems == []


def test_inspection(folder, tokenizer):
    found = inspect(folder)
    assert found.problems == [] and found.sections["output"]["tied"] is True
    assert found.sections["vocabulary"]["tokens of the tokenizer"] == len(tokenizer)
    ends = found.sections["beginnings and ends"]["a completion ends at"]
    assert [int(each.split()[0]) for each in ends] == list(
        dict.fromkeys((tokenizer.eos_token_id, *stop_token_ids(folder)))
    )
    done = subprocess.run(
        [sys.executable, ROOT / "launch/inspect.py", folder, "--json"], capture_output=True
    )
    assert done.returncode == 0 and json.loads(done.stdout)["problems"] == []


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_host_holds_little_more_than_the_model(folder, dtype):
    """The memory of a process that reads the model, against one that only knows its shape."""
    program = (
        "import re, jax\n"
        "from rljax.models.network import Network\n"
        "from rljax.models.pretrained import load_params, read_config\n"
        "from rljax.parallel.mesh import make_mesh\n"
        f"network = Network.create(read_config({str(folder)!r}, param_dtype={dtype!r}))\n"
        "mesh = make_mesh({'data': 1}, devices=jax.devices()[:1])\n"
        "def peak():\n"  # not ru_maxrss: that begins at the peak of the process before this one
        "    status = open('/proc/self/status').read()\n"
        "    return int(re.search(r'VmHWM:\\s*(\\d+) kB', status)[1]) * 1024\n"
        "before = peak()\n"
        f"params = jax.block_until_ready(load_params({str(folder)!r}, network, mesh))\n"
        "after = peak()\n"
        "size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))\n"
        "largest = max(leaf.nbytes for leaf in jax.tree.leaves(params))\n"
        "print(after - before, size, largest)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    taken, size, largest = map(int, done.stdout.split())
    gib = 2**30
    print(f"\nloading {dtype}: {taken / gib:.2f} GiB for {size / gib:.2f} GiB of parameters")
    assert size < taken < size + 3 * largest
