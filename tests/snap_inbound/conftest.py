from __future__ import annotations

import pytest
from support.inbound import NOTIFY_PATH, SECRET, Caller, receiver


@pytest.fixture
def calls():
    """What reached the merchant's function."""
    return []


@pytest.fixture
def make_bank(secrets, calls):
    """Make a bank that calls a receiver of its own: ``make_bank(partner_id="example")``."""
    secrets.add(SECRET)

    def make(function=None, **changes) -> Caller:
        made = receiver(**changes)

        def note(call):
            calls.append(call)
            return {} if function is None else function(call)

        made.on(NOTIFY_PATH.removeprefix("/v1.0"), 52, note)
        return Caller(made)

    return make


@pytest.fixture
def bank(make_bank):
    return make_bank()
