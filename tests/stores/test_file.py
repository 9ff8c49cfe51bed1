from __future__ import annotations

import json
import logging
import os
import stat
import threading
from pathlib import Path

import pytest

pytest.importorskip("filelock")

from support.clients import ScriptedClient, credentials, token
from support.scripts import Script, run
from support.threads import Call, until

from permata_auth import ConfigurationError, FileTokenStore, TokenStoreError
from permata_auth.stores.file import default_folder

from .contract import KEY, StoreContract, failure


class TestFileTokenStore(StoreContract):
    @pytest.fixture
    def make_store(self, tmp_path):
        return lambda: FileTokenStore(tmp_path / "tokens")


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "tokens"


@pytest.fixture
def store(folder) -> FileTokenStore:
    return FileTokenStore(folder)


def the_file(folder: Path) -> Path:
    (path,) = folder.glob("*.json")
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_making_a_store_touches_nothing(store, folder):
    assert store.load(KEY) is None
    assert not folder.exists()


def test_folder_and_files_are_for_their_owner_alone_whatever_the_umask(store, folder):
    umask = os.umask(0)
    try:
        with store.lock(KEY):
            store.save(KEY, token())
    finally:
        os.umask(umask)
    assert mode(folder) == 0o700
    assert {mode(path) for path in folder.iterdir()} == {0o600}


def test_file_names_hold_neither_key_nor_token(store, folder):
    saved = token(value="example-secret-token")
    store.save("../example key/\x00", saved)
    assert store.load("../example key/\x00").value == saved.value
    assert not [p for p in folder.parent.rglob("*") if "example" in p.name]


def test_what_comes_back_is_equal_to_what_was_saved(store):
    saved = token()
    store.save(KEY, saved)
    assert store.load(KEY).value == saved.value


def test_a_relative_path_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = FileTokenStore("here")
    monkeypatch.chdir("/")
    assert store.path == tmp_path / "here"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def open_to_others(path: Path) -> None:
    path.chmod(0o644)


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" " * 100_000)


def rewrite(**fields):
    def spoil(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return spoil


def write(data: bytes):
    return lambda path: path.write_bytes(data)


SPOILT = {
    "torn": cut,
    "empty": write(b""),
    "world-readable": open_to_others,
    "a symbolic link": link,
    "a FIFO": make_fifo,
    "too large": grow,
    "not JSON": write(b"\xff\x00"),
    "a list": write(b"[]"),
    "deeply nested": write(b"[" * 50_000),
    "another version": rewrite(version=2),
    "another key's": rewrite(key="example-other-key"),
    "no token": rewrite(token=None),
    "a header's end in the token": rewrite(token="a\r\nb"),
    "no date": rewrite(expires_at="soon"),
    "a date without a zone": rewrite(expires_at="2100-01-01T00:00:00"),
    "a number for a date": rewrite(issued_at=5),
    "a deadline of text": rewrite(deadline="soon"),
    "an infinite deadline": rewrite(deadline=float("inf")),
    "a deadline that is no number": rewrite(deadline=float("nan")),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_file_that_cannot_be_trusted_is_a_miss_and_is_healed(store, folder, spoil, caplog):
    store.save(KEY, token(value="example-secret-token"))
    spoil(the_file(folder))
    with caplog.at_level(logging.WARNING):
        assert [store.load(KEY) for _ in range(3)] == [None] * 3
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert record.getMessage().startswith("Stored token passed over: ")
    assert "example" not in record.getMessage()
    store.discard(KEY, token(value="example-secret-token"))
    healed = token()
    store.save(KEY, healed)
    assert store.load(KEY).value == healed.value
    assert mode(the_file(folder)) == 0o600
    assert not the_file(folder).is_symlink()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives away")
def test_another_users_file_and_folder_are_not_trusted(store, folder, caplog):
    store.save(KEY, token())
    os.chown(the_file(folder), 12345, -1)
    assert store.load(KEY) is None
    assert "it belongs to another user" in caplog.text
    os.chown(folder, 12345, -1)
    with pytest.raises(TokenStoreError, match="must belong to this user"):
        store.save(KEY, token())


@pytest.mark.parametrize("bits", [0o770, 0o1777])
def test_a_folder_that_others_may_write_to_is_refused_and_left_as_it_is(store, folder, bits):
    folder.mkdir()
    folder.chmod(bits)
    with pytest.raises(TokenStoreError, match="chmod 700"):
        store.save(KEY, token())
    with pytest.raises(TokenStoreError, match="chmod 700"), store.lock(KEY):
        pass
    assert mode(folder) == bits


def test_a_folder_that_cannot_be_is_a_store_error(tmp_path):
    (tmp_path / "file").write_text("")
    store = FileTokenStore(tmp_path / "file" / "tokens")
    for use in (lambda: store.save(KEY, token()), lambda: store.lock(KEY).__enter__()):
        with pytest.raises(TokenStoreError):
            use()
    with pytest.raises(TokenStoreError):
        store.load(KEY)


def test_a_full_disk_is_a_store_error_and_leaves_no_rest(store, folder, monkeypatch):
    old = token()
    store.save(KEY, old)

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TokenStoreError, match="No space left"):
        store.save(KEY, token())
    assert store.load(KEY).value == old.value
    assert not list(folder.glob("*.tmp"))


@pytest.mark.parametrize("write", ["save", "save_failure"])
def test_the_rest_of_a_killed_writer_is_swept_by_the_next(store, folder, write):
    store.save(KEY, token())
    rest = folder / f"{the_file(folder).stem}.killed.tmp"
    rest.write_text("example-token")
    getattr(store, write)(KEY, token() if write == "save" else failure())
    assert not rest.exists()


def test_a_wall_clock_step_neither_expires_nor_immortalises(clock, store):
    store.save(KEY, token(lifetime=100))
    for step in (100, -2_000_000):
        clock.step_wall(step)
        assert store.load(KEY).expires_in() == pytest.approx(100)
    clock.step_wall(1_999_900)
    clock.advance(100)
    assert store.load(KEY) is None


def test_a_token_of_another_boot_lives_by_its_date_but_no_longer_than_it_can(clock, store, folder):
    store.save(KEY, token(lifetime=100))
    rewrite(clock="another-boot", deadline=1e12)(the_file(folder))
    clock.step_wall(40)
    assert store.load(KEY).expires_in() == pytest.approx(60)
    clock.step_wall(-500)
    assert store.load(KEY).expires_in() == pytest.approx(100)
    clock.step_wall(1_000)
    assert store.load(KEY) is None


def test_a_lock_dies_with_its_holder(folder, store):
    code = """
        import sys, time
        from permata_auth import FileTokenStore
        with FileTokenStore(sys.argv[1]).lock("example-key"):
            print("held", flush=True)
            time.sleep(60)
        """
    with Script(code, str(folder)) as holder:
        assert holder.line() == "held"

        def enter():
            with store.lock(KEY):
                return True

        follower = Call(enter)
        follower._thread.join(0.3)
        assert not follower.is_done
        holder.process.kill()
        assert follower.value()


def test_a_child_that_was_forked_under_the_lock_does_not_hold_it(folder):
    ended = run(
        """
        import os, sys
        from permata_auth import FileTokenStore
        store = FileTokenStore(sys.argv[1])
        reading, writing = os.pipe()
        with store.lock("key"):
            child = os.fork()
            if child == 0:
                os.read(reading, 1)
                with store.lock("key"):
                    os._exit(7)
        with store.lock("key"):  # though the child lives and has not ended its with-block
            os.write(writing, b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        """,
        str(folder),
    )
    assert (ended.status, ended.err) == (0, "")


def test_a_lock_that_is_never_free_is_an_error_in_the_end(folder, store):
    impatient = FileTokenStore(folder, lock_timeout=0.1)
    with store.lock(KEY), pytest.raises(TokenStoreError, match="held the lock"):
        impatient.lock(KEY).__enter__()


@pytest.mark.parametrize(
    "arguments",
    [
        {"path": ""},
        {"path": 5},
        {"path": b"tokens"},
        {"path": Path},
        {"path": True},
        {"lock_timeout": "5"},
        {"lock_timeout": float("inf")},
        {"lock_timeout": -1},
    ],
)
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        FileTokenStore(**arguments)


@pytest.mark.parametrize(
    "spoil", [SPOILT[name] for name in ("torn", "empty", "world-readable", "too large", "a FIFO")]
)
def test_a_failure_that_cannot_be_trusted_is_none_and_is_replaced(store, folder, spoil, caplog):
    store.save_failure(KEY, failure())
    (path,) = folder.glob("*.failure")
    spoil(path)
    assert store.load_failure(KEY) is None
    assert not [r for r in caplog.records if r.name.startswith("permata_auth")]
    store.save_failure(KEY, failure(count=2))
    assert store.load_failure(KEY).count == 2
    assert mode(path) == 0o600


def test_a_success_that_had_no_failure_before_it_writes_nothing(store, folder):
    store.save_failure(KEY, None)
    assert not folder.exists()


def test_the_default_folder_is_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "permata-auth" == FileTokenStore().path
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/example")
    assert default_folder() == Path("/home/example/.cache/permata-auth")
    monkeypatch.setattr("sys.platform", "darwin")
    assert default_folder() == Path("/home/example/Library/Caches/permata-auth")


def test_without_a_home_a_path_is_asked_for(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def homeless(path):
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(ConfigurationError, match="give the token store a path"):
        FileTokenStore()


def test_two_handlers_share_a_login_through_the_folder(make_handler, folder):
    client = ScriptedClient()
    handlers = [
        make_handler(credentials(), client=client, store=FileTokenStore(folder)) for _ in range(2)
    ]
    assert len({handler.get_token() for handler in handlers}) == 1
    assert len(client.calls) == 1
    until(lambda: not [t for t in threading.enumerate() if t.name == "permata-auth-store"])
