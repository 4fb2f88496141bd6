"""The names that a pickle loads, against what Python's own unpickler asks for."""

from __future__ import annotations

import contextlib
import io
import pickle
import pickletools
from collections import OrderedDict, deque
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repair_engine.errors import BadInput
from repair_engine.models.formats.pickles import check_globals, globals_of

HIDDEN = {
    # the two strings that came last are harmless; those on the stack are not
    "popped": b"\x80\x04\x8c\x02os\x8c\x06system\x8c\x0bcollections\x8c\x0bOrderedDict00\x93.",
    "popped to a mark": b"\x80\x04\x8c\x02os\x8c\x06system(\x8c\x0bcollections\x8c\x0bOrderedDict1\x93.",
    "by the memo": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940\x8c\x0bcollections\x8c\x0bOrderedDict000h\x00h\x01\x93.",
    "memo overwritten": b"\x80\x04\x8c\x0bcollectionsq\x00\x8c\x02osq\x0000h\x00\x8c\x06system\x93.",
    "by DUP": b"\x80\x04\x8c\x02os2\x8c\x01x00\x8c\x06system\x93.",
    "old strings": b"\x80\x02U\x02osU\x06systemX\x0b\0\0\0collectionsX\x0b\0\0\0OrderedDict00\x93.",
    "in a tuple beside": b"\x80\x04\x8c\x02os\x8c\x06system\x8c\x0bcollections\x8c\x0bOrderedDict\x860\x93.",
}
UNKNOWN = {
    "a number": b"\x80\x04K\x01K\x02\x93.",
    "a result": b"\x80\x04ccollections\nOrderedDict\n)R\x8c\x06system\x93.",
    "an extension code": b"\x80\x02\x82\x01.",
    "nothing": b"\x80\x04\x93.",
    "a memo that is empty": b"\x80\x04h\x05.",
    "two names in one": b"\x80\x04\x8c\x0ecollections os\x8c\x06system\x93.",
    "a buffer": b"\x80\x05\x97.",
}


@pytest.mark.parametrize("how", HIDDEN)
def test_a_name_is_found_wherever_it_comes_from(how: str) -> None:
    assert "os.system" in globals_of(HIDDEN[how])
    with pytest.raises(BadInput, match=r"os\.system"):
        check_globals(HIDDEN[how], "m.pth")


@pytest.mark.parametrize("how", UNKNOWN)
def test_what_cannot_be_told_is_refused(how: str) -> None:
    with pytest.raises(BadInput, match="pickle is broken"):
        check_globals(UNKNOWN[how], "m.pth")


class Asked(pickle._Unpickler):  # type: ignore[name-defined]  # the one in Python: it can be watched
    """Notes which names it is asked for, and gives something harmless in their place."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.asked: list[str] = []

    def find_class(self, module: str, name: str) -> Any:
        self.asked.append(f"{module}.{name}")
        return OrderedDict if name == "OrderedDict" else Harmless

    def persistent_load(self, pid: Any) -> Any:
        return pid


class Harmless:
    def __init__(self, *given: Any, **named: Any) -> None: ...

    def __new__(cls, *given: Any, **named: Any) -> Harmless:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None: ...

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=8),
    st.sampled_from([OrderedDict, deque, Fraction, len, pickle.loads]), st.fractions(),
)  # fmt: skip
things = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=4), inner, max_size=4),
        st.dictionaries(st.text(max_size=4), inner, max_size=4).map(OrderedDict),
        inner.map(lambda value: deque([value, value])),
        st.frozensets(st.text(max_size=3), max_size=3),
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(things, st.integers(0, 5))
def test_what_a_pickler_writes_is_read_as_the_unpickler_reads_it(thing: Any, protocol: int) -> None:
    data = pickle.dumps(thing, protocol)
    watched = Asked(data)
    watched.load()
    assert globals_of(data) == list(dict.fromkeys(watched.asked))
    assert globals_of(pickletools.optimize(data)) == globals_of(data)


WORDS = [b"\x8c\x02os", b"\x8c\x06system", b"\x8c\x0bcollections", b"\x8c\x0bOrderedDict"]
PARTS = [
    *WORDS, *WORDS, b"\x93", b"\x93", b"0", b"2", b"(", b"1", b"\x94", b"q\x00", b"q\x01", b"h\x00", b"h\x01", b"h\x02",
    b"ccollections\nOrderedDict\n", b"(ios\nsystem\n", b"K\x01", b"N", b")", b"\x85", b"\x86", b"t", b"l", b"]", b"a",
    b"R", b"\x81", b"b", b"}", b"s", b"u", b"e",
]  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=14))
def test_no_name_escapes_in_pickles_made_by_hand(parts: list[bytes]) -> None:
    """Whatever the unpickler asks for before it fails or ends has been named, or the pickle was refused."""
    data = b"\x80\x04" + b"".join(parts) + b"."
    watched = Asked(data)
    with contextlib.suppress(Exception):  # it may fail after it has loaded, and then it has loaded
        watched.load()
    try:
        named = globals_of(data)
    except BadInput:
        return
    assert set(watched.asked) <= set(named)
