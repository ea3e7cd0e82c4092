import numpy as np
import pytest

from rljax.data.encode import pad_completions, pad_prompts

PAD = 256


def test_prompts_are_padded_to_the_left():
    tokens, mask = pad_prompts([[97, 98], [], [99, 100, 101]], PAD, max_prompt_tokens=3)
    np.testing.assert_array_equal(tokens, [[PAD, 97, 98], [PAD] * 3, [99, 100, 101]])
    np.testing.assert_array_equal(mask, [[False, True, True], [False] * 3, [True] * 3])
    assert tokens.dtype == np.int32 and mask.dtype == bool


def test_completions_are_padded_to_the_right():
    tokens, mask = pad_completions([[97, 98, 258], [258]], PAD, max_new_tokens=4)
    np.testing.assert_array_equal(tokens, [[97, 98, 258, PAD], [258, PAD, PAD, PAD]])
    np.testing.assert_array_equal(mask, [[1, 1, 1, 0], [1, 0, 0, 0]])


def test_the_mask_covers_an_end_that_is_the_padding():
    tokens, mask = pad_completions([[97, 258]], 258, max_new_tokens=4)
    np.testing.assert_array_equal(tokens, [[97, 258, 258, 258]])
    np.testing.assert_array_equal(mask, [[1, 1, 0, 0]])


def test_too_many_tokens_name_count_and_field():
    message = r"Prompt 1 has 4 tokens, at most 3 are allowed \(config.data.max_prompt_tokens\)"
    with pytest.raises(ValueError, match=message):
        pad_prompts([[1], [1, 2, 3, 4]], PAD, max_prompt_tokens=3)
    with pytest.raises(ValueError, match="Completion 0 has 4 tokens.*max_completion_tokens"):
        pad_completions([[1, 2, 3, 4]], PAD, max_new_tokens=3)
