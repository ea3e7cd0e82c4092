"""Names that Kubernetes, Slurm and shells take."""

import re

from rljax.errors import shown

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_LETTERS = 63  # of a label of RFC 1123
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What Kubernetes appends to the name of a pod.
POD_SUFFIX = len("-xxxxx")


def check_label(
    name: str, field: str, *, longest: int = LABEL_LETTERS, letter_first: bool = False
) -> None:
    """Raises ValueError unless a name is a label as DNS has it (RFC 1123).

    Args:
        name: of a job, a namespace, a secret, a claim.
        field: that it was given in.
        longest: letters that it may have.
        letter_first: whether it begins with a letter, as names of services do (RFC 1035).
    """
    if not LABEL.fullmatch(name) or (letter_first and not name[0].isalpha()):
        begins, rule = ("letter", 1035) if letter_first else ("letter or digit", 1123)
        raise ValueError(
            f"A name is of a-z, 0-9 and -, begins with a {begins} and ends with a letter or digit "
            f"(RFC {rule}), got {shown(name)} ({field}). {_mended(name)}".rstrip()
        )
    if len(name) > longest:
        raise ValueError(
            f"The name {shown(name)} has {len(name)} letters, and may have {longest}: what is "
            f"derived from it must fit into {LABEL_LETTERS} ({field})."
        )


def check_job_name(name: str, slices: int, hosts: int) -> None:
    """Raises ValueError unless a JobSet may be called so, and with it its service and its pods."""
    suffix = len(f"-slice-{slices - 1}-{hosts - 1}") + POD_SUFFIX
    check_label(name, "--name", longest=LABEL_LETTERS - suffix, letter_first=True)


def check_variable(name: str, field: str) -> None:
    """Raises ValueError unless a shell takes a name as that of a variable."""
    if not VARIABLE.fullmatch(name):
        raise ValueError(
            f"A variable's name is of letters, digits and _, got {shown(name)} ({field})."
        )


def check_image(image: str) -> None:
    """Raises ValueError unless a text can be the name of a container's image."""
    if not image or any(letter.isspace() for letter in image):
        raise ValueError(f"An image is needed, got {shown(image)} (--image=IMAGE).")


def _mended(name: str) -> str:
    """The name that may have been meant."""
    found = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-0123456789")[:40].strip("-")
    return f"Take {found!r}." if found else ""
