"""A sampler that runs ahead of the trainer: experience by earlier weights, in a bounded queue.

    trainer's thread           weights after step s - 1          experience of step s
                                     │ publish                          ▲ take
    sampler's threads                ▼                                  │
                              draw samples ──► score them ──► queue ────┘

| file | what it holds |
| --- | --- |
| `schedule.py` | which weights the samples of a step are drawn with |
| `agreement.py` | which weights are next, the same on all processes |
| `transfer.py` | weights from the trainer's devices to the sampler's |
| `direct.py`, `storage.py` | two ways for them: from device to device, through a folder |
| `pipeline.py` | the threads that draw and score, the queue, and how they end |
| `writers.py` | what draws a step's samples: in one go, or in pieces under newer weights |
| `source.py` | the source of a stage's experience as the loop sees it: in turn, or ahead |
| `packing.py` | experience as bytes, for the queue in a checkpoint |
| `lag.py` | metrics of how old tokens are |
| `events.py` | the log of what was drawn with which weights and trained when; replays |
| `offload.py` | the optimizer's state in host memory while samples are drawn |
"""
