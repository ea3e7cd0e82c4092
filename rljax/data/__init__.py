"""Tokens, records and rows: numpy and grain, no jax arrays.

| file | what it holds |
| --- | --- |
| `tokenizers.py` | bytes or symbols for models trained from scratch, Hugging Face from a folder |
| `token_bytes.py` | the bytes of a Hugging Face tokenizer's tokens |
| `chat.py` | chat messages to prompt text |
| `sources.py` | records by their index, and the endless shuffled stream over them |
| `survey.py` | what a data file holds: columns, conventions, lengths |
| `encode.py` | texts to padded rows: prompts to the left, completions to the right |
| `packing.py` | several demonstrations in one row, by a plan that any step can look up |
"""
