"""The stack and the memo of a pickle machine, run without calling anything: which names does a pickle load?

A name lies in the opcode (GLOBAL, INST) or on the stack (STACK_GLOBAL), where its strings may have come by the memo, by
DUP, or from below what was popped. So the machine itself is followed, value by value, as CPython's `pickle._Unpickler`
does it. What only running it would tell (the result of a call) is kept as unknown; a name made of it, and all that no
pickler writes, is refused and not guessed at.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from repair_engine.errors import BadInput


class _Mark:
    """Where a MARK stands on the stack."""


class _Unknown:
    """Any value that is not a string written in the pickle."""


_MARK, _ANY = _Mark(), _Unknown()
_STRINGS = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"}
# opcodes that put one value on the stack and take none
_CONSTANTS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "NONE", "NEWTRUE", "NEWFALSE", "FLOAT", "BINFLOAT",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "EMPTY_LIST", "EMPTY_TUPLE", "EMPTY_DICT", "EMPTY_SET",
    "PERSID",
}  # fmt: skip
# opcode -> values that it takes from the top, whether it puts one back
_FIXED = {
    "TUPLE1": (1, True), "TUPLE2": (2, True), "TUPLE3": (3, True), "BINPERSID": (1, True), "REDUCE": (2, True),
    "NEWOBJ": (2, True), "NEWOBJ_EX": (3, True), "BUILD": (1, False), "APPEND": (1, False), "SETITEM": (2, False),
}  # fmt: skip
# these change what lies below and leave it there
_INTO = {"BUILD", "APPEND", "SETITEM", "APPENDS", "SETITEMS", "ADDITEMS"}
_TO_MARK = {"LIST", "TUPLE", "DICT", "FROZENSET", "OBJ", "INST"}  # to the mark, and one value back
_INTO_MARK = {"APPENDS", "SETITEMS", "ADDITEMS"}
_NOTHING = {"PROTO", "FRAME"}


@dataclass
class _Machine:
    stack: list[Any]
    memo: dict[int, Any]

    def pop(self, what: str) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise BadInput(f"{what} takes a value where there is none")
        return self.stack.pop()

    def top(self, what: str) -> Any:
        value = self.pop(what)
        self.stack.append(value)
        return value

    def pop_to_mark(self, what: str) -> list[Any]:
        taken: list[Any] = []
        while self.stack:
            value = self.stack.pop()
            if value is _MARK:
                return taken[::-1]
            taken.append(value)
        raise BadInput(f"{what} has no mark")


def scan(data: bytes) -> Iterator[str]:
    """The names in the order in which they are loaded, "module.name", with repetitions.

    Raises:
        BadInput: broken, cut short, or a name that is made while the pickle runs.
    """
    try:
        yield from _scan(data)
    except BadInput as error:
        raise BadInput(f"The file's pickle is broken, or not one that a pickler writes: {error.problem}.") from error
    except Exception as error:  # pickletools raises many kinds on broken input
        raise BadInput(f"The file's pickle is broken or cut short: {error}") from error


def _scan(data: bytes) -> Iterator[str]:
    machine = _Machine([], {})
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        found = _step(machine, name, argument)
        if found is not None:
            module, function = found
            # a blank or a dot in the module's part would make two different names look like one
            if not module or not function or any(one.isspace() or one == "\0" for one in module + function):
                raise BadInput(f"it loads the name {module!r} {function!r}")
            yield f"{module}.{function}"


def _step(machine: _Machine, name: str, argument: Any) -> tuple[str, str] | None:
    """One opcode. Gives module and name where it loads one."""
    stack = machine.stack
    found = None
    if name in _STRINGS:
        stack.append(str(argument))
    elif name in _CONSTANTS:
        stack.append(_ANY)
    elif name in _FIXED:
        takes, gives = _FIXED[name]
        for _ in range(takes):
            machine.pop(name)
        if name in _INTO:
            machine.top(name)
        stack += [_ANY] * gives
    elif name in _INTO_MARK:
        machine.pop_to_mark(name)
        machine.top(name)
    elif name in _TO_MARK:
        machine.pop_to_mark(name)
        stack.append(_ANY)
        if name == "INST":
            found = _written(argument)
    elif name == "GLOBAL":
        stack.append(_ANY)
        found = _written(argument)
    elif name == "STACK_GLOBAL":
        function, module = machine.pop(name), machine.pop(name)
        if not isinstance(function, str) or not isinstance(module, str):
            raise BadInput("it loads a name that is not written in it")
        stack.append(_ANY)
        found = module, function
    elif name == "MARK":
        stack.append(_MARK)
    elif name == "POP":
        if not stack:
            raise BadInput("POP takes a value where there is none")
        stack.pop()  # a mark, too: CPython does so
    elif name == "POP_MARK":
        machine.pop_to_mark(name)
    elif name == "DUP":
        stack.append(machine.top(name))
    elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
        machine.memo[int(argument)] = machine.top(name)
    elif name == "MEMOIZE":
        machine.memo[len(machine.memo)] = machine.top(name)
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        if int(argument) not in machine.memo:
            raise BadInput(f"{name} of what was never put")
        stack.append(machine.memo[int(argument)])
    elif name == "STOP":
        machine.pop(name)
    elif name not in _NOTHING:  # extension codes, buffers outside of the file, and what is not known yet
        raise BadInput(f"it uses {name}")
    return found


def _written(argument: Any) -> tuple[str, str]:
    module, blank, function = str(argument).partition(" ")
    if not blank:
        raise BadInput(f"it loads the name {argument!r}")
    return module, function
