from __future__ import annotations

import os
import socket
import traceback

import pytest
from support.clients import credentials
from support.privileges import file_modes_count

from permata_auth import ConfigurationError, PermataCredentials, _sources
from permata_auth._sources import Sources
from permata_auth.stores import store_from_env

SECRET = "PERMATA_CLIENT_SECRET"
MARK = "example-mark-of-a-secret"
OTHERS = {
    "PERMATA_TOKEN_URL": "https://bank.invalid/apiservice/oauth/token",
    "PERMATA_API_KEY": "example-api-key",
    "PERMATA_CLIENT_ID": "example-client-id",
    "PERMATA_STATIC_KEY": "example-static-key",
    "PERMATA_ORGANIZATION_NAME": "example-organization",
}


def secret(environ):
    return PermataCredentials.from_env(OTHERS | environ).client_secret


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "permata_client_secret"
    path.write_text(f"{MARK}\n")
    return path


def test_a_value_comes_from_the_first_place_that_has_one(tmp_path, file):
    folders = {}
    for number, variable in enumerate(["CREDENTIALS_DIRECTORY", "PERMATA_SECRETS_DIR"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "permata_client_secret").write_text(f"example-of-{number}\n")
        folders[variable] = str(folder)
    last = {"PERMATA_SECRETS_DIR": folders["PERMATA_SECRETS_DIR"]}
    assert secret(last) == "example-of-1"
    assert secret(folders) == "example-of-0"
    assert secret(folders | {f"{SECRET}_FILE": str(file)}) == MARK
    assert secret(folders | {SECRET: "example-variable"}) == "example-variable"
    (tmp_path / "0" / "permata_client_secret").unlink()
    assert secret(folders) == "example-of-1"


def test_every_field_may_come_from_a_folder(tmp_path):
    for name, value in (OTHERS | {SECRET: "example-client-secret"}).items():
        (tmp_path / name.lower()).write_text(value)
    found = PermataCredentials.from_env({"PERMATA_SECRETS_DIR": str(tmp_path)})
    assert found == credentials()


def test_another_prefix_has_other_files(tmp_path):
    for name, value in (OTHERS | {SECRET: "example-client-secret"}).items():
        (tmp_path / name.lower().replace("permata", "bank")).write_text(value)
    environ = {"BANK_SECRETS_DIR": str(tmp_path)}
    assert PermataCredentials.from_env(environ, prefix="BANK_") == credentials()


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"example", "example"),
        (b"example\n", "example"),
        (b"example\r\n", "example"),
        (b"two words\n", "two words"),
    ],
)
def test_one_line_break_at_the_end_is_cut(file, content, value):
    file.write_bytes(content)
    assert secret({f"{SECRET}_FILE": str(file)}) == value


@pytest.mark.parametrize("content", [b" example", b"example ", b"example\n\n", b"a\nb", b"a\0b"])
def test_nothing_else_is_cut(file, content):
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"{SECRET} must be printable ASCII"):
        secret({f"{SECRET}_FILE": str(file)})


def test_a_variable_and_its_file_at_once_are_an_error_that_names_both(file):
    environ = {SECRET: MARK, f"{SECRET}_FILE": str(file)}
    with pytest.raises(ConfigurationError, match=f"^{SECRET} and {SECRET}_FILE are both set"):
        secret(environ)
    assert secret(environ | {SECRET: " "}) == MARK  # blank is not set
    assert secret(environ | {f"{SECRET}_FILE": ""}) == MARK


def folder(path):
    path.mkdir()


def fifo(path):
    os.mkfifo(path)


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def device(path):
    path.symlink_to("/dev/zero")


def large(path):
    path.write_bytes(b"x" * 65_537)


def empty(path):
    path.write_bytes(b"")


def blank(path):
    path.write_bytes(b"\n")


def binary(path):
    path.write_bytes(b"\xff\xfe" + MARK.encode())


def nothing(path):
    pass


def dangling(path):
    path.symlink_to(path.parent / "nowhere")


WRONG = {
    folder: "is a folder",
    fifo: "is no regular file",
    unix_socket: "is no regular file",
    device: "is no regular file",
    large: "is larger than 64 KiB",
    empty: "is empty",
    blank: "is empty",
    binary: "is no text in UTF-8",
}


@pytest.mark.parametrize(
    ("make", "problem"), WRONG.items(), ids=lambda each: getattr(each, "__name__", "")
)
@pytest.mark.parametrize("where", [f"{SECRET}_FILE", "CREDENTIALS_DIRECTORY"])
def test_what_is_no_small_text_file_is_refused_and_never_waited_for(
    tmp_path, monkeypatch, make, problem, where
):
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    path = tmp_path / "permata_client_secret"
    make(path.relative_to(tmp_path) if make is unix_socket else path)
    environ = {where: str(path if where.endswith("_FILE") else tmp_path)}
    with pytest.raises(ConfigurationError) as caught:
        secret(environ)
    assert problem in str(caught.value)
    assert str(path) in str(caught.value)
    assert f"{SECRET} is missing" not in str(caught.value)
    assert MARK not in str(caught.value)
    for frame, _ in traceback.walk_tb(caught.value.__traceback__):
        if "permata_auth" in frame.f_code.co_filename:
            assert MARK not in repr(frame.f_locals)


@pytest.mark.parametrize("make", [nothing, dangling], ids=lambda each: each.__name__)
def test_a_file_that_is_not_there_is_an_error_where_it_is_named(tmp_path, make):
    path = tmp_path / "permata_client_secret"
    make(path)
    with pytest.raises(ConfigurationError, match=f"{SECRET}_FILE .* names no file"):
        secret({f"{SECRET}_FILE": str(path)})
    with pytest.raises(ConfigurationError, match=f"^{SECRET} is missing$"):
        secret({"PERMATA_SECRETS_DIR": str(tmp_path)})


def test_a_path_that_no_file_can_have_is_an_error():
    with pytest.raises(ConfigurationError, match=f"{SECRET}_FILE"):
        secret({f"{SECRET}_FILE": "a\0b"})


def test_a_file_that_others_may_read_is_normal_here(file):
    file.chmod(0o644)
    assert secret({f"{SECRET}_FILE": str(file)}) == MARK


def test_a_file_that_may_not_be_read_is_an_error(file):
    file.chmod(0)
    with (
        file_modes_count(),
        pytest.raises(ConfigurationError, match="cannot be read: Permission denied"),
    ):
        secret({f"{SECRET}_FILE": str(file)})


def test_a_file_changed_for_a_fifo_after_the_look_is_not_waited_for(file, monkeypatch):
    checks = []

    def check(mode):
        checks.append(mode)
        if len(checks) == 1:  # another process, between the look and the opening
            file.unlink()
            os.mkfifo(file)

    real = _sources._check_kind
    monkeypatch.setattr(_sources, "_check_kind", lambda mode: check(mode) or real(mode))
    with pytest.raises(ConfigurationError, match="is no regular file"):
        secret({f"{SECRET}_FILE": str(file)})


def test_all_that_is_wrong_is_in_one_error(tmp_path):
    environ = {f"{name}_FILE": str(tmp_path / name) for name in (SECRET, "PERMATA_STATIC_KEY")}
    with pytest.raises(ConfigurationError) as caught:
        PermataCredentials.from_env(environ)
    for name in ("TOKEN_URL is missing", "CLIENT_SECRET_FILE", "STATIC_KEY_FILE"):
        assert f"PERMATA_{name}" in str(caught.value)


def test_it_says_where_each_value_came_from(tmp_path, file):
    found = Sources(OTHERS | {f"{SECRET}_FILE": str(file)})
    PermataCredentials.from_env(found)
    assert found.origins[SECRET] == str(file)
    assert found.origins["PERMATA_CLIENT_ID"] == "the environment"
    assert "PERMATA_CANONICALIZER" not in found.origins
    assert MARK not in repr(found)


def test_the_url_of_a_store_may_come_from_a_file(tmp_path):
    pytest.importorskip("filelock")
    path = tmp_path / "url"
    path.write_text(f"file://{tmp_path}\n")
    assert store_from_env({"PERMATA_TOKEN_STORE_FILE": str(path)}).path == tmp_path
    with pytest.raises(ConfigurationError, match="PERMATA_TOKEN_STORE_FILE"):
        store_from_env({"PERMATA_TOKEN_STORE_FILE": str(tmp_path)})


# The stamp: what changes with a file.


def change_in_place(path):
    path.write_text("example-two")


def swap_a_link(path):
    target = path.parent / "other"
    target.write_text("example-two")
    link = path.parent / "link"
    link.symlink_to(target)
    link.replace(path)


def unlink(path):
    path.unlink()


@pytest.mark.parametrize("change", [change_in_place, swap_a_link, unlink])
def test_a_stamp_changes_with_the_file_alone(tmp_path, change):
    path = tmp_path / "permata_client_secret"
    path.write_text("example-one")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    found = Sources(OTHERS | {"PERMATA_SECRETS_DIR": str(tmp_path)})
    PermataCredentials.from_env(found)
    before = found.stamp()
    assert found.stamp() == before
    change(path)
    assert found.stamp() != before


def test_a_stamp_changes_when_a_file_appears(tmp_path):
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "a"), "PERMATA_SECRETS_DIR": str(tmp_path)}
    (tmp_path / "permata_client_secret").write_text("example")
    found = Sources(OTHERS | environ)
    PermataCredentials.from_env(found)
    before = found.stamp()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "permata_client_secret").write_text("example")
    assert found.stamp() != before


def test_a_file_written_just_now_is_looked_at_once_more(tmp_path, clock):
    # Within one tick of the file system's clock it may be written again, and look the same.
    path = tmp_path / "permata_client_secret"
    path.write_text("example")
    os.utime(path, (clock.wall(), clock.wall()))
    found = Sources(OTHERS | {"PERMATA_SECRETS_DIR": str(tmp_path)})
    PermataCredentials.from_env(found)
    before = found.stamp()
    clock.jump(1)
    assert found.stamp() == before
    clock.jump(2)
    later = found.stamp()
    assert later != before
    clock.jump(1000)
    assert found.stamp() == later
