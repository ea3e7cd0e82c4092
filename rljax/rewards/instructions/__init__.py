"""Instructions that a text follows or not, whatever it says (IFEval, arXiv:2311.07911).

| file | what it holds |
| --- | --- |
| `content.py` | checks of words, letters and what must be in a text |
| `form.py` | checks of paragraphs, lists, case, beginning and end |
| `table.py` | name of an instruction -> its check; instructions read from a reference |
| `reward.py` | the reward "instructions" |
"""
