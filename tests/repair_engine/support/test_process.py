"""What a process is set to while it imports, and that it is as it was afterwards."""

from __future__ import annotations

import gc

import pytest

from repair_engine.support.process import importing


def test_garbage_is_collected_again_after_an_import_whatever_comes_of_it() -> None:
    assert gc.isenabled()
    with importing():
        assert not gc.isenabled()
        with importing():
            assert not gc.isenabled()
        assert not gc.isenabled(), "the outer one goes on"
    assert gc.isenabled()
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert gc.isenabled()
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled(), "whoever had turned it off finds it so"
    finally:
        gc.enable()
