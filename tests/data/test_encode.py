import numpy as np
import pytest

from rljax.data.encode import encode_completions, encode_prompts
from rljax.data.tokenizers import ByteTokenizer

TOKENIZER = ByteTokenizer()
PAD, BOS, EOS = TOKENIZER.pad_id, TOKENIZER.bos_id, TOKENIZER.eos_id


def test_prompts_are_padded_to_the_left():
    tokens, mask = encode_prompts(["ab", "", "cde"], TOKENIZER, max_prompt_tokens=3)
    np.testing.assert_array_equal(tokens, [[PAD, 97, 98], [PAD] * 3, [99, 100, 101]])
    np.testing.assert_array_equal(mask, [[False, True, True], [False] * 3, [True] * 3])
    assert tokens.dtype == np.int32 and mask.dtype == bool


def test_bos_is_counted():
    tokens, mask = encode_prompts(["a"], TOKENIZER, max_prompt_tokens=3, add_bos=True)
    np.testing.assert_array_equal(tokens, [[PAD, BOS, 97]])
    assert mask.sum() == 2
    with pytest.raises(ValueError, match="record 0 has 2 tokens, the budget is 1"):
        encode_prompts(["a"], TOKENIZER, max_prompt_tokens=1, add_bos=True)


def test_a_long_prompt_names_record_count_and_field():
    message = r"record 71 has 4 tokens, the budget is 3 \(config.data.max_prompt_tokens\)"
    with pytest.raises(ValueError, match=message):
        encode_prompts(["a", "abcd"], TOKENIZER, max_prompt_tokens=3, ids=[5, 71])


def test_completions_are_padded_to_the_right_and_eos_counts():
    tokens, mask = encode_completions(["ab", ""], TOKENIZER, max_new_tokens=4)
    np.testing.assert_array_equal(tokens, [[97, 98, EOS, PAD], [EOS, PAD, PAD, PAD]])
    np.testing.assert_array_equal(mask, [[1, 1, 1, 0], [1, 0, 0, 0]])


def test_the_mask_covers_eos_when_pad_is_eos():
    tokenizer = ByteTokenizer()
    tokenizer.pad_id = tokenizer.eos_id
    tokens, mask = encode_completions(["a"], tokenizer, max_new_tokens=4)
    np.testing.assert_array_equal(tokens, [[97, EOS, EOS, EOS]])
    np.testing.assert_array_equal(mask, [[1, 1, 0, 0]])


def test_too_long_completions():
    texts, options = ["abc", "a"], {"max_new_tokens": 3}
    with pytest.raises(
        ValueError, match="record 0 has 4 tokens .*<stage>.data.max_completion_tokens"
    ):
        encode_completions(texts, TOKENIZER, **options)
    tokens, _ = encode_completions(texts, TOKENIZER, append_eos=False, **options)
    np.testing.assert_array_equal(tokens, [[97, 98, 99], [97, PAD, PAD]])


def test_a_list_is_no_text():
    # Digits as texts once became token ids.
    with pytest.raises((AttributeError, TypeError)):
        encode_completions([["5", "6"]], TOKENIZER, max_new_tokens=3)
