"""One character, one id."""

import pytest

from rljax.data.tokenizers import check_round_trip, load_tokenizer
from rljax.tasks.symbols import alphabet


def test_ids_are_those_of_the_device():
    tokenizer = load_tokenizer("symbols")
    assert (tokenizer.vocab_size, tokenizer.bos_id) == (alphabet.VOCAB_SIZE, None)
    assert (tokenizer.pad_id, tokenizer.eos_id) == (alphabet.PAD_ID, alphabet.EOS_ID)
    assert tokenizer.encode("12+a>") == alphabet.encode("12+a>")
    every = alphabet.SYMBOLS.replace(alphabet.EOS, "")
    check_round_trip(every, tokenizer, "field")


def test_eos_is_left_out_and_a_sampled_pad_is_seen():
    tokenizer = load_tokenizer("symbols")
    assert tokenizer.decode([3, tokenizer.pad_id, 4, tokenizer.eos_id]) == "1_2"
    assert tokenizer.token_text(tokenizer.pad_id) == "<pad>"
    assert tokenizer.token_text(tokenizer.eos_id) == "<eos>"
    assert tokenizer.token_text(3) == "1"
    spelled = b"".join(tokenizer.token_bytes())
    assert spelled.decode() == tokenizer.decode(range(tokenizer.vocab_size))


def test_what_is_no_symbol_is_refused():
    tokenizer = load_tokenizer("symbols")
    with pytest.raises(ValueError, match="is no symbol"):
        tokenizer.encode("A")
    assert tokenizer.decode([-1, tokenizer.vocab_size]) == ""
    with pytest.raises(ValueError, match="takes no special tokens"):
        load_tokenizer("symbols", ("<answer>",))
