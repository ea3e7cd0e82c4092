"""What runs inside of sandboxes, beside the code that is tested: Python alone, no package.

| file | what it does |
| --- | --- |
| `values.py` | plain values as JSON, and back; nothing of the other side is run |
| `serve.py` | holds the program, and calls its functions for the tests |
| `judge.py` | holds the tests, and asks the program through pipes |
"""
