"""Hugging Face checkpoints in and out.

families.py          what the published families share and differ in
config_json.py       config.json <-> ModelConfig
rope_and_windows.py  rotary positions and sliding windows in config.json
names.py             our parameters <-> names and layouts of tensors
checks.py            JSON files, and what their keys must hold
tensor_files.py      the safetensors format
files.py             what else a folder holds, and what of it an export carries
load.py              read_config, load_params
save.py              save_pretrained
"""

from rljax.models.pretrained.load import (
    check_tensors,
    is_pretrained,
    load_params,
    read_config,
    stop_token_ids,
)
from rljax.models.pretrained.save import save_pretrained

__all__ = [
    "check_tensors",
    "is_pretrained",
    "load_params",
    "read_config",
    "save_pretrained",
    "stop_token_ids",
]
