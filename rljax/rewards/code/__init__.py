"""The reward "python_tests": a completion is a program, the reference holds its tests.

| file | what it holds |
| --- | --- |
| `extraction.py` | the code in a completion |
| `golds.py` | tests as data sets write them, read or refused when a file is opened |
| `running.py` | how many tests a program passes, in sandboxes |
| `outputs.py` | whether an output is the expected one |
| `reward.py` | the reward |
| `inside/` | what runs inside of the sandboxes |
"""
