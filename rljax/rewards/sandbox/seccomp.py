"""A filter of system calls: none that opens a socket, traces, mounts, or makes namespaces.

The program for the kernel is classic BPF (seccomp(2)): it loads the architecture, the number of the
call and single arguments, and returns what to do.
"""

import ctypes
import errno
import platform
import struct
from typing import NamedTuple

from rljax.rewards.sandbox import kernel


class Machine(NamedTuple):
    """Numbers of system calls on one architecture."""

    audit: int
    clone3: int
    clone: int
    kill: int
    tgkill: int
    tkill: int
    refused: dict[str, int]


# Calls from 424 on have the same number on every architecture.
_SAME = {
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "pidfd_open": 434,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "memfd_secret": 447,
}

_X86_64 = {
    **{"socket": 41, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311},
    **{"mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "unshare": 272},
    **{"setns": 308, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "keyctl": 250},
    **{"add_key": 248, "request_key": 249, "memfd_create": 319, "shmget": 29, "shmat": 30},
    **{"msgget": 68, "semget": 64, "mq_open": 240, "name_to_handle_at": 303},
    **{"open_by_handle_at": 304, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297},
    **{"kcmp": 312, "personality": 135, "acct": 163, "syslog": 103, "quotactl": 179},
    **{"init_module": 175, "finit_module": 313, "kexec_load": 246, "vhangup": 153},
    **{"fanotify_init": 300, "migrate_pages": 256, "move_pages": 279},
}

_AARCH64 = {
    **{"socket": 198, "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271},
    **{"mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "unshare": 97},
    **{"setns": 268, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "keyctl": 219},
    **{"add_key": 217, "request_key": 218, "memfd_create": 279, "shmget": 194, "shmat": 196},
    **{"msgget": 186, "semget": 190, "mq_open": 180, "name_to_handle_at": 264},
    **{"open_by_handle_at": 265, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240},
    **{"kcmp": 272, "personality": 92, "acct": 89, "syslog": 116, "quotactl": 60},
    **{"init_module": 105, "finit_module": 273, "kexec_load": 104, "vhangup": 58},
    **{"fanotify_init": 262, "migrate_pages": 238, "move_pages": 239},
}

MACHINES = {
    "x86_64": Machine(0xC000003E, 435, 56, 62, 234, 200, {**_X86_64, **_SAME}),
    "aarch64": Machine(0xC00000B7, 435, 220, 129, 131, 130, {**_AARCH64, **_SAME}),
}

_NEW_NAMESPACE = 0x7E020080  # any CLONE_NEW... flag of clone(2)
_X32 = 0x40000000  # from here on the numbers of x86's other interface

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST = 0, 4, 16  # offsets in struct seccomp_data
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06

# prctl(2) and linux/seccomp.h
_SET_SECCOMP, _FILTER = 22, 2


def available() -> bool:
    """Whether this architecture's numbers are known, and the kernel has filters."""
    if not kernel.LINUX or platform.machine() not in MACHINES:
        return False
    try:
        # A filter at address 0: EFAULT says that the kernel would have read one.
        kernel.call("prctl", _SET_SECCOMP, _FILTER, 0, 0, 0)
    except OSError as error:
        return error.errno in (errno.EFAULT, errno.EACCES)
    return True


def filter_program(machine: Machine, own_process: int | None) -> bytes:
    """The filter as an array of struct sock_filter.

    Args:
        machine: of `MACHINES`.
        own_process: id of the process, if it may send signals only to itself and its group; None:
            to whom the kernel lets it.
    """
    refuse = _statement(_RETURN, _ERRNO | errno.EPERM)
    allow = _statement(_RETURN, _ALLOW)
    lines = [
        _statement(_LOAD, _ARCHITECTURE),
        _jump(_EQUAL, machine.audit, 1, 0),
        _statement(_RETURN, _KILL),
        _statement(_LOAD, _NUMBER),
        *(_jump(_AT_LEAST, _X32, 0, 1), refuse),
        # The C library falls back from clone3, whose flags lie in memory, to clone.
        *(_jump(_EQUAL, machine.clone3, 0, 1), _statement(_RETURN, _ERRNO | errno.ENOSYS)),
    ]
    for number in machine.refused.values():
        lines += [_jump(_EQUAL, number, 0, 1), refuse]
    lines += [
        _jump(_EQUAL, machine.clone, 0, 4),
        _statement(_LOAD, _FIRST),
        *(_jump(_ANY_BIT, _NEW_NAMESPACE, 0, 1), refuse, allow),
    ]
    if own_process is not None:
        for number in (machine.kill, machine.tgkill):
            lines += [
                _jump(_EQUAL, number, 0, 5),
                _statement(_LOAD, _FIRST),
                *(_jump(_EQUAL, own_process, 2, 0), _jump(_EQUAL, 0, 1, 0)),
                *(refuse, allow),
            ]
        lines += [_jump(_EQUAL, machine.tkill, 0, 1), refuse]
    return b"".join([*lines, allow])


def install(own_process: int | None) -> None:
    """Sets the filter for this process and all that it starts.

    Raises:
        OSError: the kernel has no filters.
    """
    code = filter_program(MACHINES[platform.machine()], own_process)
    lines = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(lines))
    kernel.give_up_new_privileges()
    kernel.call("prctl", _SET_SECCOMP, _FILTER, header, 0, 0)


def kafel_policy() -> str:
    """The same list as nsjail's language for filters writes it."""
    machine = MACHINES[platform.machine()]
    refused = [f"SYSCALL[{number}]" for number in machine.refused.values()]
    refused.append(f"SYSCALL[{machine.clone}](flags) {{ (flags & {_NEW_NAMESPACE}) != 0 }}")
    return (
        f"ERRNO({errno.EPERM}) {{ {', '.join(refused)} }} "
        f"ERRNO({errno.ENOSYS}) {{ SYSCALL[{machine.clone3}] }} DEFAULT ALLOW"
    )


def _statement(code: int, value: int) -> bytes:
    return struct.pack("HBBI", code, 0, 0, value)


def _jump(code: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)
