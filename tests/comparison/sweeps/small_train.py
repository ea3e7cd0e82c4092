"""Stands for launch/train.py: writes what a run writes, and can be killed, continued and broken.

Its reward is the learning rate times the step, so the largest rate is the best. At a rate of 0.5 it
fails at step 2, unless a file `mended` lies beside it. Where a file `patient` does, it waits at the
steps 2 and 4 to be told to end.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

beside = Path(sys.argv[0]).parent
words = dict(word.split("=", 1) for word in sys.argv[1:])
workdir = Path(words["--workdir"])
rate = float(words.get("--config.grpo.optimizer.learning_rate", 0.1))
seed = int(words.get("--config.seed", 0))
workdir.mkdir(parents=True, exist_ok=True)
metrics = workdir / "metrics.jsonl"
done = len(metrics.read_text().splitlines()) if metrics.exists() else 0
ended = []
signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
with open(workdir / "starts", "a") as file:
    file.write(f"{sorted(os.sched_getaffinity(0))}\n")
for step in range(done + 1, 9):
    if rate == 0.5 and step == 2 and not (beside / "mended").exists():
        sys.exit("error: this rate is too high")
    row = {"stage": "grpo", "step": step, "kind": "train", "reward": rate * step + seed / 1000}
    with open(metrics, "a") as file:
        file.write(json.dumps(row) + "\n")
    until = time.monotonic() + (60 if step in (2, 4) and (beside / "patient").exists() else 0.02)
    while not ended and time.monotonic() < until:
        time.sleep(0.01)
    if ended:
        sys.exit(143)
(workdir / "summary.json").write_text('{"wall_seconds": 1.0}\n')
