from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from importlib.metadata import metadata, requires, version
from pathlib import Path

import pytest
from support.scripts import run

import permata_auth
from permata_auth import exceptions

SURFACE = {
    "AccessToken",
    "CallbackStatusClient",
    "CallbackStatusResponse",
    "FileTokenStore",
    "HandlerInfo",
    "Health",
    "LoginClient",
    "LoginHandler",
    "MemoryTokenStore",
    "PermataAuth",
    "PermataCredentials",
    "RedisTokenStore",
    "RetryPolicy",
    "RotatingCredentials",
    "SchedulerConfig",
    "SchedulerInfo",
    "SnapCredentials",
    "TokenScheduler",
    "TokenStore",
    "Transport",
    "WebhookProcessor",
    "WebhookResponse",
    "sign_request",
}
ERRORS = {
    name
    for name, value in vars(exceptions).items()
    if inspect.isclass(value) and issubclass(value, exceptions.PermataAuthError)
}
EXTRAS = (
    "celery",
    "click",
    "cryptography",
    "django",
    "filelock",
    "flask",
    "prometheus_client",
    "redis",
    "rich",
    "werkzeug",
)

#: Makes every import of an extra fail, as if it were not installed.
WITHOUT_EXTRAS = f"""
    import sys

    class Missing:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in {EXTRAS!r}:
                raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

    sys.meta_path.insert(0, Missing())
"""


def test_the_root_exports_the_public_surface_and_all_errors():
    assert set(permata_auth.__all__) == SURFACE | ERRORS


def test_the_exports_are_sorted_and_there():
    assert permata_auth.__all__ == sorted(permata_auth.__all__)
    for name in permata_auth.__all__:
        assert getattr(permata_auth, name).__name__ == name


def test_no_other_name_of_the_root_looks_public():
    modules = {module.name for module in pkgutil.iter_modules(permata_auth.__path__)}
    imported = {"annotations", "importlib", "logging"}
    names = {name for name in vars(permata_auth) if not name.startswith(("_", "@"))}
    assert names - imported - modules <= set(permata_auth.__all__) | {"TYPE_CHECKING", "Any"}


def test_errors_of_the_root_are_those_of_their_module():
    for name in ERRORS:
        assert getattr(permata_auth, name) is getattr(exceptions, name)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'permata_auth' has no attribute 'Nothing'"):
        permata_auth.Nothing  # noqa: B018


@pytest.mark.parametrize("name", sorted(SURFACE))
def test_what_is_public_says_what_it_does(name):
    exported = getattr(permata_auth, name)
    assert inspect.getdoc(exported).splitlines()[0].endswith((".", ":"))
    if not inspect.isclass(exported):
        return
    for member, value in vars(exported).items():
        if inspect.isfunction(value) and not member.startswith("_"):
            assert inspect.getdoc(value), f"{name}.{member}"


@pytest.mark.parametrize("name", sorted(SURFACE))
def test_annotations_can_be_read_at_run_time(name):
    exported = getattr(permata_auth, name)
    assert typing.get_type_hints(exported) is not None
    if inspect.isclass(exported):
        for value in vars(exported).values():
            # attrs writes some methods itself, with the annotations of converters elsewhere.
            if inspect.isfunction(value) and "attrs" not in value.__code__.co_filename:
                typing.get_type_hints(value)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("SchedulerConfig", "refresh_buffer_secs min_schedule_time_secs"),
        ("TokenScheduler", "config * name"),
        ("TokenScheduler.start", "expires_at callback"),
        ("TokenScheduler.stop", ""),
        ("TokenScheduler.shutdown", "timeout"),
        ("TokenScheduler.info", ""),
        ("TokenScheduler.update_config", "config"),
        ("AccessToken.expires_in", ""),
        (
            "PermataCredentials",
            "* token_url api_key client_id client_secret static_key organization_name",
        ),
        ("PermataCredentials.from_env", "environ * prefix"),
        (
            "SnapCredentials",
            (
                "* token_url client_id client_secret private_key private_key_file "
                "private_key_passphrase partner_id channel_id origin origin_header timestamp_form "
                "transaction_signature token_signature signature_encoding canonicalizer sign_query "
                "signed_prefix external_id_length external_id allow_insecure_http allow_short_key"
            ),
        ),
        ("SnapCredentials.from_env", "environ * prefix"),
        ("SnapCredentials.outcome", "status_code body"),
        ("RetryPolicy", "attempts wait_initial wait_max timeout"),
        ("LoginClient", "credentials * retry timeout session"),
        ("LoginClient.login", ""),
        ("LoginClient.close", ""),
        ("LoginHandler", "credentials * client scheduler store on_event clamp_to_lifetime"),
        ("LoginHandler.from_env", "environ * prefix arguments"),
        ("RotatingCredentials", "load * check_secs"),
        ("RotatingCredentials.from_env", ""),
        ("RotatingCredentials.reload", ""),
        ("LoginHandler.get_token", "timeout unique_id request_id"),
        ("LoginHandler.get_access_token", "timeout unique_id request_id"),
        ("LoginHandler.refresh", ""),
        ("LoginHandler.invalidate", "token"),
        ("LoginHandler.clear_cache", ""),
        ("LoginHandler.info", ""),
        ("LoginHandler.shutdown", ""),
        ("PermataAuth", "handler * canonicalizer"),
        ("sign_request", "handler method url body * canonicalizer"),
        ("CallbackStatusClient", "handler url"),
        ("CallbackStatusClient.send", "payload * request_id"),
        ("CallbackStatusResponse", "* http_status status_code status_desc body"),
        ("WebhookProcessor", "client * app_secrets allow_unsigned verify_token max_body_bytes"),
        ("WebhookProcessor.verify", "query"),
        ("WebhookProcessor.process", "body headers"),
        ("WebhookResponse", "* http_status body forwarded kind request_id"),
        ("FileTokenStore", "path"),
        ("MemoryTokenStore", ""),
        ("TokenStore.load", "key"),
        ("TokenStore.save", "key token"),
        ("TokenStore.discard", "key token"),
        ("TokenStore.lock", "key"),
    ],
)
def test_signatures_take_these_names(name, parameters):
    """An asterisk stands before the first that is to be given by name."""
    found: object = permata_auth
    for part in name.split("."):
        found = getattr(found, part)
    taken = []
    for each in inspect.signature(found).parameters.values():
        if each.kind is each.KEYWORD_ONLY and "*" not in taken:
            taken.append("*")
        taken.append(each.name)
    assert [each for each in taken if each in parameters.split()] == parameters.split()


def test_readers_have_these_attributes():
    for name in ("scheduler",):
        assert isinstance(getattr(permata_auth.LoginHandler, name), property)
    for name in ("is_active", "config"):
        assert isinstance(getattr(permata_auth.TokenScheduler, name), property)
    fields = [field.name for field in permata_auth.HandlerInfo.__attrs_attrs__]
    assert fields == [
        "fingerprint",
        "expires_at",
        "seconds_left",
        "next_refresh_at",
        "logins",
        "failed_logins",
        "last_error",
        "last_error_at",
        "waiting",
        "last_login_at",
        "next_login_at",
        "clock_offset",
    ]


def test_type_checkers_may_read_the_package():
    assert (Path(permata_auth.__file__).parent / "py.typed").is_file()


def test_the_core_depends_on_three_packages():
    core = [each for each in requires("permata-auth") if "extra ==" not in each]
    names = sorted(each.partition(">")[0].strip() for each in core)
    assert names == ["attrs", "requests", "tenacity"]
    assert metadata("permata-auth")["Requires-Python"] == ">=3.10"


def test_the_core_imports_no_extra():
    ended = run(
        f"""
        import sys
        import permata_auth

        print(sorted(set({EXTRAS!r}) & {{name.partition(".")[0] for name in sys.modules}}))
        """
    )
    assert (ended.status, ended.out, ended.err) == (0, "[]\n", "")


def test_the_core_works_without_extras():
    ended = run(
        WITHOUT_EXTRAS
        + """
    import permata_auth

    scheme = permata_auth.PermataCredentials(
        token_url="http://127.0.0.1:9/",
        api_key="example-api-key",
        client_id="example-client-id",
        client_secret="example-client-secret",
        static_key="example-static-key",
        organization_name="example-organization",
    )
    from permata_auth import *

    assert {name: globals()[name] for name in permata_auth.__all__}
    with permata_auth.LoginHandler(scheme) as handler:
        assert scheme.sign("example-token", "POST", "https://x", b"{}")
        handler.info()
    print("fine")
    """
    )
    assert (ended.status, ended.out, ended.err) == (0, "fine\n", "")


@pytest.mark.parametrize(
    ("use", "extra"),
    [
        ("permata_auth.FileTokenStore()", "file"),
        ("permata_auth.RedisTokenStore('redis://127.0.0.1:9')", "redis"),
        (
            (
                "permata_auth.SnapCredentials(token_url='https://bank.invalid', client_id='x', "
                "client_secret='y', private_key='z')"
            ),
            "snap",
        ),
        ("import permata_auth.sandbox", "sandbox"),
        ("import permata_auth.integrations.flask", "flask"),
        ("import permata_auth.integrations.django", "django"),
        ("import permata_auth.integrations.celery", "celery"),
        ("import permata_auth.integrations.prometheus", "prometheus"),
    ],
)
def test_what_needs_an_extra_says_which(use, extra):
    ended = run(
        WITHOUT_EXTRAS
        + f"""
    import permata_auth

    try:
        {use}
    except ImportError as error:
        print(error)
    """
    )
    assert ended.status == 0, ended.err
    (line,) = ended.out.splitlines()
    assert f"pip install 'permata-auth[{extra}]'" in line


def test_an_import_does_nothing_but_define():
    ended = run(
        """
        import logging, signal, sys, threading

        before = signal.getsignal(signal.SIGINT), sys.excepthook, threading.excepthook
        events = []
        sys.addaudithook(lambda event, args: events.append(event))
        import permata_auth

        forbidden = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.fork")
        assert not set(forbidden) & set(events)
        assert "import" in events
        assert threading.active_count() == 1
        assert logging.getLogger().handlers == []
        (handler,) = logging.getLogger("permata_auth").handlers
        assert isinstance(handler, logging.NullHandler)
        assert logging.getLogger("permata_auth").level == logging.NOTSET
        assert before == (signal.getsignal(signal.SIGINT), sys.excepthook, threading.excepthook)
        """
    )
    assert (ended.status, ended.out, ended.err) == (0, "", "")


def test_every_module_has_one_sentence_that_says_what_it_is_for():
    folder = Path(permata_auth.__file__).parent
    for file in sorted(folder.rglob("*.py")):
        if {"migrations"} & set(file.parts):
            continue
        head = file.read_text().lstrip()
        assert head.startswith('"""'), file
        assert "from __future__ import annotations" in head or len(head.splitlines()) <= 3, file


def test_every_core_module_can_be_imported_alone():
    names = [
        module.name
        for module in pkgutil.walk_packages(permata_auth.__path__, "permata_auth.")
        if not module.name.startswith(
            ("permata_auth.integrations", "permata_auth.cli", "permata_auth.__main__")
        )
    ]
    assert "permata_auth.stores.memory" in names
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:  # noqa: PERF203 - a room that serves an extra alone
            assert str(error.name).partition(".")[0] in {"cryptography", "redis"}, name


def test_the_version_is_that_of_the_distribution():
    assert permata_auth.__version__ == version("permata-auth")
