"""Tokens, records and rows: numpy and grain, no jax arrays.

| file | what it holds |
| --- | --- |
| `tokenizers.py` | bytes or symbols for models trained from scratch, Hugging Face from a folder |
| `byte_files.py` | a byte tokenizer, a plain chat template as the files of a Hugging Face folder |
| `pad_token.py` | the padding token of an exported reward model |
| `token_bytes.py` | the bytes of a Hugging Face tokenizer's tokens |
| `conversations.py` | conversations of any convention in the usual form |
| `chat.py` | conversations to text: chat templates |
| `control_tokens.py` | what becomes of control tokens spelt out in the texts of rows |
| `text_format.py` | how rows become tokens, and tokens text: beginnings, ends, templates |
| `next_turn.py` | what stands between two replies of a model |
| `balance.py` | rows whose classes are learned equally often |
| `rows.py` | what the columns of a row say: a prompt, its answer, an example |
| `pairs.py` | pairs: explicit and implicit prompts, margins |
| `draws.py` | a described distribution and draws of it, as one example |
| `values.py` | labels, scores and answers, read or refused |
| `feedback.py` | what they say beside pairs: labelled and scored completions, labelled steps |
| `sample_rules.py` | which samples of a prompt become a pair, or a labelled completion |
| `step_ends.py` | where the steps of sampled answers end, found on their tokens |
| `truncation.py` | rows that are too long: one named rule, and what it costs |
| `feedback_survey.py` | rows twice, contradictions, wrong columns, overlap of two sets |
| `step_examples.py` | answers in labelled steps as demonstrations |
| `balance.py` | rows whose classes are learned equally often |
| `set_view.py` | a preference or supervised set at a glance |
| `sources.py` | records by their index, and the endless shuffled stream over them |
| `data_files.py` | the files that a path means: a file, a folder, a pattern |
| `survey.py` | what a data file holds: columns, conventions, lengths |
| `batches.py` | indices in batches of one size |
| `encode.py` | ids to padded rows: prompts to the left, completions to the right |
| `canvas.py` | a demonstration filled up to the canvas of a diffusion model |
| `segments.py` | texts cut into lines, sentences or words, each with what comes before it |
| `packing.py` | several examples in one row, by a plan that any step can look up |
"""
