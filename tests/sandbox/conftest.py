from __future__ import annotations

import threading

import pytest

from permata_auth.sandbox import Sandbox


@pytest.fixture
def bank():
    with Sandbox() as bank:
        yield bank


@pytest.fixture(autouse=True)
def _leaves_no_thread():
    yield
    left = [t for t in threading.enumerate() if t.name.startswith("permata-sandbox")]
    for thread in left:
        thread.join(5)
    assert not [thread for thread in left if thread.is_alive()]
