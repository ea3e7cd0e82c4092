"""Rewards as other stacks compute them, by the name of task and stack.

| file | what it holds |
| --- | --- |
| `table.py` | reward -> where it looks, and what is equal there |
| `extraction.py` | where an answer is looked for |
| `normal_forms.py` | texts without what does not count |
| `comparison.py` | equal texts, equal expressions, shared words |
| `golds.py` | the gold answers of these rewards |
"""
