from __future__ import annotations

import threading

import pytest
from support.threads import until

from permata_auth.sandbox import Sandbox


@pytest.fixture
def bank():
    with Sandbox() as bank:
        yield bank


@pytest.fixture(autouse=True)
def _leaves_no_thread():
    yield
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("permata-sandbox")])
