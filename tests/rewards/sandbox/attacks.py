"""Programs that try to get out, to take more than they may, or to stay.

A program prints ESCAPED when it has done what it must not. `{outside}` is a folder that everybody
may write to, `{secret}` a file that everybody may read, `{victim}` a process of the owner's user,
`{port}` a port of this machine where somebody listens, `{socket}` a socket in the file system.
"""

from typing import NamedTuple

from rljax.rewards.sandbox.layers import OPTIONAL, Layers


class Attack(NamedTuple):
    """One program, and what must come of it.

    Attributes:
        name: as in the table of the README.
        code: Python.
        reasons: how it may end.
        by: what stops it in "process".
        launched: what stops it in bubblewrap and nsjail, if that is something else.
        needs: layers of which one is enough; none: it is always stopped.
        lethal: it ends the tests where nothing stops it.
    """

    name: str
    code: str
    reasons: tuple[str, ...] = ("ok", "error")
    by: str = ""
    launched: str = ""
    needs: tuple[str, ...] = ()
    lethal: bool = False

    def stopped(self, layers: Layers) -> bool:
        """Whether these layers must stop it."""
        have = {name for name in OPTIONAL if getattr(layers, name)}
        if layers.means != "process":
            have.add("landlock")  # files are hidden by mounts
        return not self.needs or bool(have & set(self.needs))

    @property
    def row(self) -> tuple[str, ...]:
        """Of the table in the README."""
        as_root = "own user" if "own_user" in self.needs else "**not stopped**"
        return (
            self.name,
            self.launched or self.by,
            self.by,
            as_root if self.needs else self.by,
            "**not stopped**" if self.needs else self.by,
        )


_TRY = """
def attempt(action):
    try:
        action()
    except (Exception, SystemExit) as error:
        print(type(error).__name__)
    else:
        print("ESCAPED")
"""

_LIBC = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"


def _tried(expression: str, before: str = "import os") -> str:
    return f"{before}\n{_TRY}\nattempt(lambda: {expression})\n"


def _called(call: str) -> str:
    """A function of the C library that must not return 0."""
    return f"import os\n{_LIBC}print('ESCAPED' if {call} == 0 else 'refused')\n"


_FILES = {"by": "Landlock", "launched": "own file system", "needs": ("landlock",)}
_OF_OTHERS = {
    "by": "Landlock, own user",
    "launched": "own file system",
    "needs": ("landlock", "own_user"),
}
_PROCESSES = {
    "by": "own process namespace, seccomp, own user",
    "needs": ("namespaces", "seccomp", "own_user"),
}
_NETWORK = {"by": "seccomp, own network", "needs": ("seccomp", "namespaces")}
_RIGHTS = {"by": "no rights of root"}
_CALL = {"by": "seccomp", "needs": ("seccomp",)}
_TREE = {"by": "orphans are adopted and killed"}

ATTACKS = (
    # Files
    Attack("write to an absolute path", _tried("open('{outside}/a', 'w')"), **_FILES),
    Attack("write through ..", _tried("open('../' * 30 + '{outside}/b', 'w')"), **_FILES),
    Attack(
        "write through a symbolic link",
        _tried("open('link/c', 'w')", "import os\nos.symlink('{outside}', 'link')"),
        **_FILES,
    ),
    Attack("read /etc/passwd", _tried("open('/etc/passwd').read()"), **_FILES),
    Attack("read a file of the run", _tried("open('{secret}').read()"), **_FILES),
    Attack(
        "read it through a hard link",
        _tried("(os.link('{secret}', 'h'), open('h').read())"),
        **_OF_OTHERS,
    ),
    Attack(
        "list folders of other samples",
        _tried("1 / (len(os.listdir('..')) - 1)"),
        **_OF_OTHERS,
    ),
    Attack(
        "read another process's environment",
        _tried("open('/proc/{victim}/environ').read()"),
        **_OF_OTHERS,
    ),
    Attack(
        "read another process's memory",
        _tried("open('/proc/{victim}/mem', 'r+b')"),
        **_OF_OTHERS,
    ),
    Attack(
        "write to the run's standard output",
        "import os\n" + _TRY + "attempt(lambda: open(f'/proc/{os.getppid()}/fd/1', 'w'))\n",
        by="processes of ours hold no output",
    ),
    Attack("become root", _tried("os.setuid(0)"), **_RIGHTS),
    Attack(
        "mount a file system", _called("libc.mount(b'n', b'/tmp', b'tmpfs', 0, None)"), **_RIGHTS
    ),
    Attack(
        "user namespace of its own, and a mount there",
        f"{_LIBC}r = libc.unshare(0x10020000)\n"
        "r = r or libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)\n"
        "print('refused' if r else 'ESCAPED')\n",
        **_CALL,
    ),
    Attack("chroot", _called("libc.chroot(b'/')"), **_RIGHTS),
    Attack("trace another process", _called("libc.ptrace(16, {victim}, 0, 0)"), **_PROCESSES),
    # Other processes
    Attack("kill a process of the run", _tried("os.kill({victim}, 9)"), **_PROCESSES),
    Attack(
        "kill all processes",
        "import os\ntry:\n    os.kill(-1, 9)\nexcept OSError as error:\n    print(error)\n",
        reasons=("ok", "killed"),
        lethal=True,
        **_PROCESSES,
    ),
    Attack(
        "kill its parent",
        "import os\n"
        "try:\n    os.kill(os.getppid(), 9)\n"
        "except OSError as error:\n    print(error)\n",
        reasons=("ok", "killed"),
        by="own process namespace, own user; else its own run ends",
    ),
    Attack(
        "a daemon: fork twice, own session",
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        open('pid', 'w').write('x')\n"
        "        time.sleep(1000)\n"
        "    os._exit(0)\n"
        "while not os.path.exists('pid'): time.sleep(0.01)\n",
        **_TREE,
    ),
    Attack(
        "a daemon that ignores signals",
        "import os, signal, time\n"
        "for n in range(1, 32):\n"
        "    if n not in (9, 17, 19): signal.signal(n, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    time.sleep(1000)\n",
        **_TREE,
    ),
    Attack(
        "a chain: each process starts the next and ends",
        "import os\nwhile True:\n    if os.fork(): os._exit(0)\n",
        reasons=("ok", "timeout", "processes"),
        by="orphans are adopted and killed",
    ),
    Attack(
        "a fork bomb",
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n",
        reasons=("timeout", "processes", "memory"),
        by="limit of processes",
    ),
    Attack(
        "a thread bomb",
        "import threading, time\n"
        "for _ in range(10000): threading.Thread(target=time.sleep, args=(99,)).start()\n"
        "print('ESCAPED')\n",
        reasons=("error", "timeout", "processes", "memory"),
        by="limit of processes",
    ),
    # Time
    Attack("an endless loop", "while True: pass\n", ("timeout",), "wall time"),
    Attack("sleep", "import time\ntime.sleep(1000)\n", ("timeout",), "wall time"),
    Attack(
        "ignore SIGTERM and SIGINT",
        "import signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "while True: pass\n",
        ("timeout",),
        "SIGKILL",
    ),
    Attack("wait for standard input", "print(repr(input()))\n", ("error",), "/dev/null"),
    Attack(
        "CPU time in children",
        "import os\n"
        "for _ in range(4):\n    if os.fork() == 0:\n        while True: pass\n"
        "os.wait()\n",
        ("timeout",),
        "wall time, of the tree",
    ),
    # Memory
    Attack("a huge bytearray", "x = bytearray(10**12)\n", ("memory",), "limit of address space"),
    Attack(
        "memory bit by bit",
        "x = []\nwhile True: x.append(bytearray(2**20))\n",
        ("memory",),
        "limit of address space",
    ),
    Attack(
        "shared memory",
        "import mmap\nx = [mmap.mmap(-1, 2**26) for _ in range(100)]\nprint('ESCAPED')\n",
        ("error", "memory"),
        "limit of address space",
    ),
    Attack(
        "memory in children",
        "import os, time\n"
        "for _ in range(6):\n"
        "    if os.fork() == 0:\n"
        "        x = bytearray(b'x') * (100 * 2**20)\n"
        "        time.sleep(99)\n"
        "os.wait()\nprint('ESCAPED')\n",
        ("memory",),
        "memory of the tree is measured",
    ),
    Attack(
        "a gzip bomb",
        "import zlib\n"
        "c = zlib.compressobj(1)\n"
        "z = b''.join(c.compress(bytes(2**20)) for _ in range(300)) + c.flush()\n"
        "zlib.decompress(z)\nprint('ESCAPED')\n",
        ("memory",),
        "limit of address space",
    ),
    Attack(
        "deep recursion",
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(): return [f()]\nf()\n",
        ("killed", "memory", "error", "timeout"),
        "the process ends",
    ),
    Attack(
        "a crash in C",
        "import ctypes\nctypes.string_at(0)\n",
        ("killed",),
        "the process ends",
    ),
    Attack(
        "a huge integer",
        "import sys\nsys.set_int_max_str_digits(0)\nprint(9**9**9)\n",
        ("timeout", "memory"),
        "wall time",
    ),
    # Disk
    Attack(
        "one big file",
        "with open('x', 'wb') as f:\n    while True: f.write(bytes(2**20))\n",
        ("error", "files"),
        "limit of a file",
    ),
    Attack(
        "many big files",
        "i = 0\nwhile True:\n    i += 1\n    open(f'f{i}', 'wb').write(bytes(2**21))\n",
        ("files",),
        "the folder is measured",
    ),
    Attack(
        "many small files",
        "i = 0\nwhile True:\n    i += 1\n    open(f'f{i}', 'w').close()\n",
        ("files",),
        "the folder is measured",
    ),
    Attack(
        "deleted files that stay open",
        "import os, time\nh = []\n"
        "for i in range(20):\n"
        "    h.append(open('x', 'wb'))\n    h[-1].write(bytes(2**21))\n    h[-1].flush()\n"
        "    os.unlink('x')\n"
        "time.sleep(99)\n",
        ("files",),
        "open files are measured",
    ),
    Attack(
        "a sparse file of 1 TB",
        _tried("os.truncate(os.open('x', os.O_CREAT | os.O_RDWR), 2**40)"),
        ("ok", "files"),
        "limit of a file",
    ),
    Attack(
        "folders without end",
        "import os\nwhile True:\n    os.mkdir('d')\n    os.chdir('d')\n",
        ("files",),
        "the folder is measured",
    ),
    Attack(
        "a folder that cannot be removed",
        "import os\nos.makedirs('a/b')\nopen('a/b/c', 'w').close()\n"
        "os.chmod('a/b', 0)\nos.chmod('a', 0)\n",
        ("ok", "files"),
        "rights are given back",
    ),
    Attack(
        "fill /dev/shm",
        _tried("(open(n, 'wb'), os.unlink(n))", "import os\nn = f'/dev/shm/{os.urandom(4).hex()}'"),
        **_FILES,
    ),
    Attack(
        "files in memory",
        _tried("os.memfd_create('x')"),
        **_CALL,
    ),
    # Output
    Attack(
        "a flood on standard output",
        "while True: print('x' * 10000)\n",
        ("output",),
        "limit of output",
    ),
    Attack(
        "a flood on standard error",
        "import sys\nwhile True: sys.stderr.write('x' * 10000)\n",
        ("output",),
        "limit of output",
    ),
    Attack(
        "bytes that are no text",
        "import sys\nsys.stdout.buffer.write(bytes(range(256)) + b'\\x1b]0;x\\x07')\n",
        ("ok",),
        "kept as bytes",
    ),
    # Network
    Attack(
        "connect to a port of this machine",
        _tried(
            "socket.create_connection(('127.0.0.1', {port}), 2).sendall(b'x')", "import os, socket"
        ),
        **_NETWORK,
    ),
    Attack(
        "listen",
        _tried("socket.create_server(('127.0.0.1', 0))", "import os, socket"),
        **_NETWORK,
    ),
    Attack(
        "send to a name server",
        _tried(
            "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 53))",
            "import os, socket",
        ),
        **_NETWORK,
    ),
    Attack(
        "a raw socket of the kernel",
        _tried("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)", "import os, socket"),
        **_CALL,
    ),
    Attack(
        "a socket in the file system",
        _tried("socket.socket(socket.AF_UNIX).connect('{socket}')", "import os, socket"),
        **_CALL,
    ),
    # What it finds
    Attack(
        "secrets in the environment",
        "import os\nprint('ESCAPED' if 'SECRET' in str(os.environ) else 'none')\n",
        ("ok",),
        "empty environment",
    ),
    Attack(
        "descriptors of the run",
        "import os\n"
        "for n in (*range(3, 5), *range(6, 60)):\n"
        "    try: os.fstat(n)\n"
        "    except OSError: continue\n"
        "    print('ESCAPED', n)\n",
        ("ok",),
        "descriptors are closed",
    ),
    Attack(
        "raise its limits",
        _tried("resource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40))", "import os, resource"),
        **_RIGHTS,
    ),
    Attack(
        "a core dump",
        "import os\nos.abort()\n",
        ("killed",),
        "limit of core files",
    ),
    Attack(
        "all descriptors",
        "import os\nh = [os.open('/dev/null', 0) for _ in range(100000)]\nprint('ESCAPED')\n",
        ("error",),
        "limit of open files",
    ),
    Attack(
        "modules of its own in the folder",
        "import os, subprocess, sys\n"
        "open('random.py', 'w').write('print(\"ESCAPED\")')\n"
        "import random\n",
        ("ok",),
        "Python's safe path",
    ),
)
