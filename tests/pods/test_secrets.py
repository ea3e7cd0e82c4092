"""What looks like a key is refused, in every word and every variable."""

import pytest

from rljax.pods.secrets import check_variables, check_words

SECRETS = [
    *("hf_AbCdEfGhIjKlMnOpQrSt", "ghp_abcdefghijklmnop1234", "sk-proj-abcdefghijklmnop"),
    *("AKIAABCDEFGHIJKLMNOP", "-----BEGIN RSA PRIVATE KEY-----", "https://me:pass@host/x"),
]


@pytest.mark.parametrize("value", SECRETS)
def test_what_looks_like_a_key_is_refused_and_not_repeated(value):
    for call in (
        lambda: check_variables({"X": value}, "--env"),
        lambda: check_words([f"--config.name={value}"], "--"),
        lambda: check_words([value], "--"),
    ):
        with pytest.raises(ValueError, match="looks like a secret") as error:
            call()
        assert value not in str(error.value)


def test_what_is_no_key_is_taken():
    check_words(["--config.stop_token=</s>", "--config.max_tokens=512", "gs://a/b"], "--")
    check_variables({"XLA_FLAGS": "--a=1", "API_KEY_FILE": "/x", "HF_TOKEN": "/run/token"}, "--env")
