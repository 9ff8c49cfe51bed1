"""The promises of a token store in a folder at its limits, and its warnings."""

from __future__ import annotations

import logging
import os

import pytest

pytest.importorskip("filelock")

from support.clients import token

from permata_auth import FileTokenStore

KEY = "example-key"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "tokens"


@pytest.fixture
def store(folder):
    return FileTokenStore(folder)


def the_file(folder):
    (path,) = folder.glob("*.json")
    return path


def warnings(caplog) -> int:
    return sum(record.levelno >= logging.WARNING for record in caplog.records)


@pytest.mark.parametrize(("size", "is_read"), [(64 * 1024, True), (64 * 1024 + 1, False)])
def test_a_file_of_64_kib_is_read_and_no_larger_one(store, folder, size, is_read):
    store.save(KEY, token())
    path = the_file(folder)
    path.write_bytes(path.read_bytes().ljust(size))
    assert (store.load(KEY) is not None) is is_read


def test_an_expired_token_is_not_written(store, folder):
    store.save(KEY, token(lifetime=0))
    store.save(KEY, token(lifetime=-5))
    assert not folder.exists()


def test_an_expired_token_does_not_replace_a_live_one(store):
    live = token()
    store.save(KEY, live)
    store.save(KEY, token(lifetime=-5))
    assert store.load(KEY).value == live.value


def test_a_sound_file_in_between_lets_it_warn_again(store, folder, caplog):
    store.save(KEY, token())
    sound = the_file(folder).read_bytes()
    for content, count in [(b"torn", 1), (b"torn", 1), (sound, 1), (b"torn", 2), (b"torn", 2)]:
        the_file(folder).write_bytes(content)
        store.load(KEY)
        assert warnings(caplog) == count


def test_no_file_in_between_does_not(store, folder, caplog):
    store.save(KEY, token())
    path = the_file(folder)
    for content in (b"torn", None, b"torn"):
        path.unlink(missing_ok=True)
        if content is not None:
            path.touch(mode=0o600)
            path.write_bytes(content)
        assert store.load(KEY) is None
    assert warnings(caplog) == 1


@pytest.mark.skipif(os.name != "posix", reason="modes mean something else here")
@pytest.mark.parametrize("bit", [0o001, 0o002, 0o004, 0o010, 0o020, 0o040], ids=oct)
def test_a_file_that_is_open_to_others_in_any_way_counts_as_none(store, folder, bit):
    store.save(KEY, token())
    the_file(folder).chmod(0o600 | bit)
    assert store.load(KEY) is None
    the_file(folder).chmod(0o600)
    assert store.load(KEY) is not None
