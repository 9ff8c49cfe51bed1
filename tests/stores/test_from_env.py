from __future__ import annotations

import subprocess
import sys
from pathlib import Path, PureWindowsPath

import pytest

from permata_auth import ConfigurationError
from permata_auth.stores import store_from_env


def store_of(url: str):
    return store_from_env({"PERMATA_TOKEN_STORE": url})


@pytest.mark.parametrize("environ", [{}, {"PERMATA_TOKEN_STORE": ""}, {"PERMATA_TOKEN_STORE": " "}])
def test_unset_there_is_no_store(environ):
    assert store_from_env(environ) is None


def test_the_environment_of_the_process_is_the_default(monkeypatch, tmp_path):
    pytest.importorskip("filelock")
    monkeypatch.delenv("PERMATA_TOKEN_STORE", raising=False)
    assert store_from_env() is None
    monkeypatch.setenv("PERMATA_TOKEN_STORE", tmp_path.as_uri())
    assert store_from_env().path == tmp_path
    monkeypatch.setenv("OTHER_TOKEN_STORE", "file:///example")
    assert store_from_env(prefix="OTHER_").path == Path("/example")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///run/example", "/run/example"),
        ("file://localhost/run/example", "/run/example"),
        ("file:///run/an%20example", "/run/an example"),
        ("file:", "/cache/permata-auth"),
    ],
)
def test_file_urls_name_a_folder(monkeypatch, url, path):
    pytest.importorskip("filelock")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert store_of(url).path == Path(path)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///C:/run/an%20example", r"C:\run\an example"),
        ("file:///c|/run", r"c:\run"),
        ("file:///C%3A/run", r"C:\run"),
        ("file://localhost/D:/run", r"D:\run"),
        ("file:///C:", "C:\\"),
        ("file:////server/share/run", r"\\server\share\run"),
        ("file:C:/run", r"C:\run"),
    ],
)
def test_on_windows_file_urls_name_a_drive(monkeypatch, url, path):
    file = pytest.importorskip("permata_auth.stores.file")
    monkeypatch.setattr("sys.platform", "win32")
    given = []
    monkeypatch.setattr(file, "FileTokenStore", given.append)
    store_of(url)
    assert PureWindowsPath(given[0]) == PureWindowsPath(path)
    assert PureWindowsPath(given[0]).is_absolute()


def test_elsewhere_a_colon_is_part_of_a_name():
    pytest.importorskip("filelock")
    assert store_of("file:///C:/run").path == Path("/C:/run")


@pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys"])
def test_redis_urls_name_a_server(scheme):
    pytest.importorskip("redis")
    store = store_of(f"{scheme}://:example-password@example.invalid:7000/3")
    assert store._client.connection_pool.connection_kwargs["port"] == 7000
    assert store._client.connection_pool.connection_kwargs["db"] == 3


@pytest.mark.parametrize(
    "url",
    [
        "/run/example-secret",
        "http://example-secret.invalid",
        "file://example-secret.invalid/run",
        "file:///run?example-secret",
        "redis://[example-secret",
        "redis://user:example-secret\N{FULLWIDTH COLON}x@127.0.0.1",
    ],
)
def test_anything_else_is_a_configuration_error_that_shows_no_value(url):
    with pytest.raises(ConfigurationError, match="PERMATA_TOKEN_STORE") as caught:
        store_of(url)
    assert "example-secret" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize(("module", "extra"), [("filelock", "file"), ("redis", "redis")])
def test_a_missing_extra_says_what_to_install(module, extra):
    url = {"file": "file:///example", "redis": "redis://example.invalid"}[extra]
    code = (
        f"import sys; sys.modules[{module!r}] = None; from permata_auth.stores import "
        f"store_from_env; store_from_env({{'PERMATA_TOKEN_STORE': {url!r}}})"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.stderr.strip().splitlines()[-1].endswith(f"pip install 'permata-auth[{extra}]'")
