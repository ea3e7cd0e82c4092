"""Attributes of a Cloud TPU machine, from the metadata server of its cloud."""

import os
import urllib.error
import urllib.request
from pathlib import Path

SECONDS = 2.0
GOOGLE = "0x1ae0"  # vendor of a PCI device


def attribute(key: str) -> str | None:
    """An attribute of this machine; None where it has no TPU, or no server answers."""
    if not has_tpu():
        return None
    server = os.environ.get("GCE_METADATA_IP", "metadata.google.internal")
    request = urllib.request.Request(
        f"http://{server}/computeMetadata/v1/instance/attributes/{key}",
        headers={"Metadata-Flavor": "Google"},
    )
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.read(2**20).decode()
    except (OSError, urllib.error.URLError, UnicodeDecodeError):
        return None


def has_tpu(root: Path = Path("/")) -> bool:
    """Whether the machine has the files of a TPU's driver, and a device of its maker."""
    driver = any(root.glob("dev/accel*")) or any(root.glob("dev/vfio/[0-9]*"))
    if not driver:
        return False
    vendors = root.glob("sys/bus/pci/devices/*/vendor")
    return any(path.read_text().strip() == GOOGLE for path in vendors)
