"""A filter of system calls (Linux, x86-64 and arm64): what a parser does not need is refused by the kernel.

A list of what is allowed, so that a call which a later kernel brings is refused too. Nothing is opened for writing:
what the child writes goes to descriptors that it was started with. A test compares the numbers with libseccomp's.
https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Mapping, Sequence

from repair_engine.support.sandbox.kernel import syscall

# name -> (number on x86-64, on arm64)
# fmt: off
NUMBERS: Mapping[str, tuple[int, int | None]] = {
    # files that are open
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67),
    "pwrite64": (18, 68), "lseek": (8, 62), "close": (3, 57), "close_range": (436, 436), "fstat": (5, 80),
    "stat": (4, None), "lstat": (6, None), "newfstatat": (262, 79), "statx": (332, 291), "statfs": (137, 43),
    "fstatfs": (138, 44), "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439),
    "readlink": (89, None), "readlinkat": (267, 78), "getcwd": (79, 17), "getdents": (78, None),
    "getdents64": (217, 61), "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24), "pipe": (22, None),
    "pipe2": (293, 59), "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72),
    "epoll_create1": (291, 20), "epoll_ctl": (233, 21), "epoll_wait": (232, None), "epoll_pwait": (281, 22),
    "eventfd2": (290, 19), "fsync": (74, 82), "fdatasync": (75, 83), "ftruncate": (77, 46), "fallocate": (285, 47),
    "fadvise64": (221, 223), "flock": (73, 32), "umask": (95, 166),
    # memory
    "mmap": (9, 222), "munmap": (11, 215), "mprotect": (10, 226), "mremap": (25, 216), "madvise": (28, 233),
    "msync": (26, 227), "brk": (12, 214), "mincore": (27, 232), "mlock": (149, 228), "munlock": (150, 229),
    "membarrier": (324, 283), "get_mempolicy": (239, 236),
    # threads
    "futex": (202, 98), "set_robust_list": (273, 99), "get_robust_list": (274, 100), "set_tid_address": (218, 96),
    "rseq": (334, 293), "exit": (60, 93), "exit_group": (231, 94), "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123), "sched_getparam": (143, 121), "sched_getscheduler": (145, 120),
    "sched_get_priority_max": (146, 125), "sched_get_priority_min": (147, 126), "getcpu": (309, 168),
    "arch_prctl": (158, None), "wait4": (61, 260),
    # signals to itself
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "rt_sigsuspend": (130, 133),
    "rt_sigtimedwait": (128, 137), "rt_sigpending": (127, 136), "sigaltstack": (131, 132),
    "restart_syscall": (219, 128), "pause": (34, None),
    # who, where and when
    "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178), "getuid": (102, 174), "geteuid": (107, 175),
    "getgid": (104, 176), "getegid": (108, 177), "getgroups": (115, 158), "getresuid": (118, 148),
    "getresgid": (120, 150), "uname": (63, 160), "sysinfo": (99, 179), "getrusage": (98, 165), "times": (100, 153),
    "getrlimit": (97, 163), "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101), "gettimeofday": (96, 169), "time": (201, None), "getitimer": (36, 102),
    "setitimer": (38, 103), "alarm": (37, None), "getrandom": (318, 278),
    # judged by their arguments
    "open": (2, None), "openat": (257, 56), "clone": (56, 220), "clone3": (435, 435), "kill": (62, 129),
    "tgkill": (234, 131), "prctl": (157, 167), "fcntl": (72, 25), "ioctl": (16, 29), "prlimit64": (302, 261),
}
# fmt: on
_MACHINES = {"x86_64": (0, 0xC000003E, 317), "aarch64": (1, 0xC00000B7, 277)}  # column, audit name, seccomp's number
_NEWEST = 450  # later numbers are calls that did not exist when this was written: libraries expect "no such call"
_WRITING = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC
_CLONE_THREAD, _CLONE_NEW = 0x00010000, 0x7E020000
_PRCTL = (
    3,
    15,
    16,
    21,
    23,
    39,
    0x53564D41,
)  # GET_DUMPABLE, SET_NAME, GET_NAME, GET_SECCOMP, CAPBSET_READ, GET_NNP, VMA
_FCNTL = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030)  # copies, flags and locks; not whom to signal
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5450, 0x5451)  # is it a terminal, its size, bytes to read, close-on-exec
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_SET_MODE_FILTER, _TSYNC = 1, 1

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant


def _load(offset: int) -> Instruction:
    return (0x20, 0, 0, offset)


def _low(argument: int) -> Instruction:
    """Loads the low half of a call's argument: all of those that are judged are 32 bits wide, or only these count."""
    return _load(16 + 8 * argument)


def _equal(value: int, yes: int, no: int) -> Instruction:
    return (0x15, yes, no, value)


def _any_bit(mask: int, yes: int, no: int) -> Instruction:
    return (0x45, yes, no, mask)


def _end(action: int) -> Instruction:
    return (0x06, 0, 0, action)


def _refuse(number: int) -> Instruction:
    return _end(0x00050000 | number)


def _one_of(argument: int, values: Sequence[int], refused: int = errno.EPERM) -> list[Instruction]:
    tests = [_equal(value, len(values) - i, 0) for i, value in enumerate(values)]
    return [_low(argument), *tests, _refuse(refused), _end(_ALLOW)]


def _without_bits(argument: int, mask: int, refused: int) -> list[Instruction]:
    return [_low(argument), _any_bit(mask, 0, 1), _refuse(refused), _end(_ALLOW)]


def _judged(pid: int) -> dict[str, list[Instruction]]:
    thread = [
        _low(0), _any_bit(_CLONE_THREAD, 1, 0), _refuse(errno.EPERM),
        _any_bit(_CLONE_NEW, 0, 1), _refuse(errno.EPERM), _end(_ALLOW),
    ]  # fmt: skip
    return {
        "open": _without_bits(1, _WRITING, errno.EACCES),
        "openat": _without_bits(2, _WRITING, errno.EACCES),
        "clone": thread,
        "clone3": [_refuse(errno.ENOSYS)],  # its flags lie in memory, where no filter sees them: glibc goes on by clone
        "kill": _one_of(0, [pid]),
        "tgkill": _one_of(0, [pid]),
        "prctl": _one_of(0, _PRCTL),
        "fcntl": _one_of(1, _FCNTL),
        "ioctl": _one_of(1, _IOCTL, errno.ENOTTY),
        "prlimit64": _one_of(0, [0, pid]),
    }


def program(machine: str, pid: int) -> list[Instruction]:
    """The filter for a processor and for a process that may send signals to itself. Raises KeyError: other machine."""
    column, audit, _ = _MACHINES[machine]
    judged = _judged(pid)
    made = [_load(4), _equal(audit, 1, 0), _end(_KILL), _load(0)]
    for name, numbers in NUMBERS.items():
        number = numbers[column]
        if number is not None:
            verdict = judged.get(name, [_end(_ALLOW)])
            made += [_equal(number, 0, len(verdict)), *verdict]
    return [*made, (0x25, 0, 1, _NEWEST), _refuse(errno.ENOSYS), _refuse(errno.EPERM)]


def restrict() -> None:
    """Puts the filter on all threads of this process, for good.

    Raises:
        OSError: the kernel has none.
        KeyError: the processor is not known here.
    """
    machine = platform.machine()
    made = program(machine, os.getpid())
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in made))
    head = ctypes.create_string_buffer(struct.pack("@HP", len(made), ctypes.addressof(code)))
    if syscall("seccomp", _MACHINES[machine][2], _SET_MODE_FILTER, _TSYNC, ctypes.byref(head)):
        raise OSError(errno.EBUSY, "a thread could not be filtered")
