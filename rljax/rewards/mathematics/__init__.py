r"""The reward "math": answers compared by value.

| file | what it holds |
| --- | --- |
| `reward.py` | the reward: the last box against the gold |
| `golds.py` | a gold answer as data sets write it, read or refused |
| `readings.py` | what an answer is: number, choice, words or expression |
| `spelling.py` | Unicode, wrappings, groups of digits and sentences in one spelling |
| `numbers.py` | numbers with fractions, percent, currency, units: read and compared exactly |
| `units.py` | units and currencies |
| `equality.py` | when two readings are one |
| `limits.py` | what is never parsed |
"""
