"""Every family against transformers: the numbers in fixtures/, made by make_fixtures.py."""

import json

import numpy as np
import pytest
from flax import nnx
from pretrained_cases import CASES, FIXTURES

from rljax.models.pretrained.rope_and_windows import read_rope
from rljax.models.rotary import frequencies

TOLERANCE = 1e-4


@pytest.fixture
def note(record_property):
    """Keeps a worst error with the test's report (`--junitxml`), and prints it with `-s`."""

    def keep(case: str, check: str, error: float) -> None:
        record_property(check, f"{error:.1e}")
        print(f"\n{case:24}{check:12}{error:.1e}")

    return keep


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_transformers(load_case, note, name):
    case = load_case(name)
    scores = np.asarray(case.ours.scores)
    assert scores.shape == case.theirs.scores.shape
    real = np.asarray(case.rows[2]) > 0 if scores.ndim == 3 else np.ones(len(scores), bool)
    error = np.abs(scores - case.theirs.scores)[real].max()
    note(name, "scores", error)
    assert error < TOLERANCE
    assert np.abs(case.theirs.scores[real]).max() > 0.1  # the fixture says something


@pytest.mark.parametrize("name", CASES)
def test_hidden_states_of_every_layer(load_case, note, name):
    case = load_case(name)
    hidden = np.asarray(case.ours.hidden)
    assert hidden.shape == case.theirs.hidden.shape
    error = np.abs(hidden - case.theirs.hidden)[:, np.asarray(case.rows[2]) > 0].max()
    note(name, "hidden", error)
    assert error < TOLERANCE


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_all_parameters(load_case, note, name):
    case = load_case(name)
    worst = 0.0
    expected = nnx.traversals.flatten_mapping(case.theirs.gradient)
    for path, found in nnx.traversals.flatten_mapping(case.ours.gradient).items():
        found, wanted = np.asarray(found), np.asarray(expected[path])
        assert np.abs(wanted).max() > 0, path
        error = np.abs(found - wanted).max() / np.abs(wanted).max()
        assert error < TOLERANCE, path
        worst = max(worst, error)
    note(name, "gradient", worst)


def test_padded_rows_of_the_vocabulary_are_zeros(load_case):
    case = load_case("qwen3")
    for name in ("embedding", "output"):
        assert case.params[name].shape[0] == 64
        np.testing.assert_array_equal(case.params[name][61:], 0.0)
        assert np.all(np.abs(case.params[name][:61]).max(axis=1) > 0)


@pytest.mark.parametrize("name", json.loads((FIXTURES / "rope.json").read_text()))
def test_scaled_frequencies_are_those_of_transformers(name):
    expected = json.loads((FIXTURES / "rope.json").read_text())[name]
    values = expected["config"]
    rope, _ = read_rope(values, values, per_layer=False)
    found, factor = frequencies(rope["rope_base"], values["head_dim"], rope["rope_scaling"])
    np.testing.assert_allclose(found, np.array(expected["frequencies"]), rtol=2e-6)
    assert factor == pytest.approx(expected["factor"], rel=1e-6)
    plain, _ = frequencies(rope["rope_base"], values["head_dim"], None)
    assert np.abs(plain / found - 1).max() > 0.5
