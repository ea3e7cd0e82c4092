"""FILE:ARG: what a config does not look at is refused."""

import functools

import pytest

from rljax.config.arguments import call_get_config
from rljax.config.load import load_config


def without():
    return {}


def ignores(arg=""):
    return {"name": "x"}


def reads(arg=""):
    return {"name": arg}


def reads_after_a_store(arg=""):
    name = "x"; name = arg  # fmt: skip  # noqa: E702  (one instruction for both in Python 3.13)
    return {"name": name}


def reads_in_a_function(arg=""):
    def inner():
        return arg

    return {"name": inner()}


@pytest.mark.parametrize("function", [without, ignores])
def test_an_argument_that_nothing_reads_is_refused(function):
    assert call_get_config(function, "", "c.py") is not None
    with pytest.raises(ValueError, match=r"argument of c.py 'smok'.* Did you mean 'smoke'\?"):
        call_get_config(function, "smok", "c.py")


@pytest.mark.parametrize(
    "function", [reads, reads_after_a_store, reads_in_a_function, functools.partial(reads)]
)
def test_an_argument_that_is_read_is_given(function):
    assert call_get_config(function, "a", "c.py") == {"name": "a"}


@pytest.mark.parametrize("result", ["None", "5", "'text'", "[]"])
def test_what_get_config_returns_is_checked(result, tmp_path):
    path = tmp_path / "c.py"
    path.write_text(f"def get_config():\n    return {result}\n")
    with pytest.raises(ValueError, match="A config is a ConfigDict or a dict"):
        load_config(str(path))
