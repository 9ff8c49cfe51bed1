"""Credentials that change: the requests of a rotation, and the cost of a bad load."""

from __future__ import annotations

import pickle
import signal
import threading

import pytest
import requests
from support.clients import credentials
from support.threads import PATIENCE, Call, together

from permata_auth import (
    CallbackStatusClient,
    ConfigurationError,
    InvalidClientError,
    LoginClient,
    LoginHandler,
    PermataAuth,
    PermataCredentials,
    RetryPolicy,
    RotatingCredentials,
    _clock,
    sign_request,
)
from permata_auth import credentials as module
from permata_auth._settings import require_members
from permata_auth.events import CredentialsReloaded
from permata_auth.schemes.base import Scheme

PATH = "/apiservice/InquiryServices/BalanceInfo/inq"
OLD, NEW, NEWER = "example-client-secret", "example-new-secret", "example-newer-secret"
OLD_KEY, NEW_KEY, NEWER_KEY = "example-static-key", "example-new-key", "example-newer-key"


class Mount:
    """A folder of secrets, as Kubernetes mounts one: links through ``..data``, swapped at once."""

    def __init__(self, folder, bank) -> None:
        self.folder = folder
        self._serial = 0
        environment = bank.environment()
        self._secrets = {
            name.lower(): environment.pop(name)
            for name in ("PERMATA_CLIENT_SECRET", "PERMATA_STATIC_KEY")
        }
        self.environment = environment | {"PERMATA_SECRETS_DIR": str(folder)}
        self.write()
        for name in self._secrets:
            (folder / name).symlink_to(f"..data/{name}")

    def write(self, **changes: str) -> None:
        self._secrets |= {f"permata_{name}": value for name, value in changes.items()}
        self._serial += 1
        target = self.folder / f"..{self._serial}"
        target.mkdir()
        for name, value in self._secrets.items():
            (target / name).write_text(f"{value}\n")
        link = self.folder / "..data_tmp"
        link.symlink_to(target.name)
        link.replace(self.folder / "..data")

    @property
    def secret(self):
        """The file of the client secret itself."""
        return (self.folder / "permata_client_secret").resolve()


@pytest.fixture
def mount(tmp_path, bank):
    return Mount(tmp_path, bank)


@pytest.fixture
def rotating(mount, secrets):
    secrets.add(NEW, NEWER, NEW_KEY, NEWER_KEY)
    return RotatingCredentials.from_env(mount.environment)


@pytest.fixture
def handler(rotating, make_handler):
    handler = make_handler(rotating)
    handler.get_token()
    return handler


@pytest.fixture
def session(handler):
    with requests.Session() as session:
        session.trust_env = False
        session.auth = PermataAuth(handler)
        yield session


def warnings_of(caplog):
    found = [r for r in caplog.records if r.name == module.__name__ and r.levelno >= 30]
    return [record.getMessage() for record in found]


# Rotation of a secret: both orders, both and neither valid.


def test_the_file_changes_first_and_no_login_is_refused(bank, mount, handler):
    token = handler.get_token()
    mount.write(client_secret=NEW)
    assert handler.get_token() == token
    bank.rotate(client_secret=NEW)
    handler.refresh()
    assert (bank.logins, bank.refused_logins) == (2, 0)


def test_the_bank_changes_first_and_one_login_is_refused(bank, mount, handler):
    token = handler.get_token()
    bank.rotate(client_secret=NEW)
    with pytest.raises(InvalidClientError):
        handler.refresh()
    assert handler.get_token() == token
    mount.write(client_secret=NEW)
    assert handler.refresh().value != token
    assert (bank.logins, bank.refused_logins) == (2, 1)


def test_while_both_are_good_no_login_is_refused(bank, mount, handler):
    bank.rotate(client_secret=NEW, overlap=True)
    handler.refresh()
    mount.write(client_secret=NEW)
    handler.refresh()
    bank.rotate()  # the old one ends
    handler.refresh()
    assert (bank.logins, bank.refused_logins) == (4, 0)


def test_while_neither_is_good_calls_go_on_and_one_login_is_refused(bank, mount, handler, session):
    bank.rotate(client_secret=NEWER)
    mount.write(client_secret=NEW)
    with pytest.raises(InvalidClientError):
        handler.refresh()
    for _ in range(3):
        assert session.post(bank.url + PATH, json={}).status_code == 200
    mount.write(client_secret=NEWER)
    handler.refresh()
    assert (bank.logins, bank.refused_logins) == (2, 1)
    assert bank.calls_by_status == {"200": 3}


def test_a_secret_that_changes_while_the_login_is_on_its_way_is_tried_at_once(bank, mount, handler):
    bank.rotate(client_secret=NEW)
    gate = bank.hold_next(on="token")
    call = Call(handler.refresh)
    assert gate.arrived.wait(PATIENCE)
    mount.write(client_secret=NEW)
    gate.release()
    call.value()
    assert (bank.login_attempts, bank.refused_logins) == (3, 1)


def test_a_pause_after_a_refusal_does_not_hold_changed_credentials(bank, mount, handler):
    bank.rotate(client_secret=NEW)
    handler.clear_cache()
    errors = []
    for _ in range(50):
        with pytest.raises(InvalidClientError) as caught:
            handler.get_token()
        errors.append(caught.value)
    assert bank.refused_logins == 1
    assert errors[-1].retry_after > 0
    mount.write(client_secret=NEW)
    calls = together(8, handler.get_token)
    assert len({call.value() for call in calls}) == 1
    assert (bank.logins, bank.refused_logins) == (2, 1)


def test_changed_credentials_that_are_refused_too_have_a_pause_of_their_own(bank, mount, handler):
    bank.rotate(client_secret=NEWER)
    handler.clear_cache()
    for secret in (OLD, NEW):
        mount.write(client_secret=secret)
        for _ in range(20):
            with pytest.raises(InvalidClientError):
                handler.get_token()
    assert bank.refused_logins == 2


def test_a_plain_client_looks_before_a_login_too(bank, mount, rotating):
    with LoginClient(rotating) as client:
        client.login()
        bank.rotate(client_secret=NEW)
        mount.write(client_secret=NEW)
        client.login()
    assert (bank.logins, bank.refused_logins) == (2, 0)


def test_a_reload_ends_no_live_token(bank, mount, handler, rotating):
    token = handler.get_token()
    mount.write(client_secret=NEW, static_key=NEW_KEY)
    assert rotating.reload()
    assert handler.get_token() == token
    assert bank.logins == 1


# Rotation of the static key, with calls in between.


def test_the_bank_changes_the_static_key_first(bank, mount, session):
    assert session.post(bank.url + PATH, json={}).status_code == 200
    bank.rotate(static_key=NEW_KEY)
    mount.write(static_key=NEW_KEY)
    for _ in range(5):
        assert session.post(bank.url + PATH, json={}).status_code == 200
    assert bank.calls_by_status == {"200": 6, "403": 1}
    assert bank.logins == 1


def test_the_file_changes_first_and_a_login_comes_in_between(bank, mount, handler, session):
    mount.write(static_key=NEW_KEY)
    with pytest.raises(Exception, match="Signature Not Valid"):
        handler.refresh()
    for _ in range(5):
        assert session.post(bank.url + PATH, json={}).status_code == 200
    bank.rotate(static_key=NEW_KEY)
    for _ in range(5):
        assert session.post(bank.url + PATH, json={}).status_code == 200
    assert bank.calls_by_status == {"200": 10, "403": 1}
    assert (bank.logins, bank.refused_logins) == (1, 1)


def test_a_reload_by_hand_before_the_bank_changes_fails_no_call(bank, mount, session, rotating):
    mount.write(static_key=NEW_KEY)
    assert rotating.reload()
    for _ in range(5):
        assert session.post(bank.url + PATH, json={}).status_code == 200
    bank.rotate(static_key=NEW_KEY)
    for _ in range(5):
        assert session.post(bank.url + PATH, json={}).status_code == 200
    assert bank.calls_by_status == {"200": 10, "403": 2}  # one at each change


def test_many_calls_at_once_are_refused_once_each_at_most(bank, mount, handler):
    bank.rotate(static_key=NEW_KEY)
    gate = bank.hold_next(8, on="calls")
    auth = PermataAuth(handler)

    def call():
        with requests.Session() as session:
            session.trust_env = False
            return session.post(bank.url + PATH, json={}, auth=auth).status_code

    calls = [Call(call) for _ in range(8)]
    assert gate.arrived.wait(PATIENCE)
    mount.write(static_key=NEW_KEY)
    gate.release()
    assert [each.value() for each in calls] == [200] * 8
    assert bank.calls_by_status["200"] == 8
    assert bank.calls_by_status["403"] <= 8
    assert bank.logins == 1


def test_a_refused_signature_is_the_callers_where_nothing_has_changed(bank, session):
    bank.rotate(static_key=NEW_KEY)
    for _ in range(3):
        assert session.post(bank.url + PATH, json={}).status_code == 403
    assert bank.calls_by_status == {"403": 3}
    assert bank.logins == 1


def test_a_callback_status_is_sent_again_too(bank, mount, handler):
    with CallbackStatusClient(handler, bank.callback_status_url) as client:
        bank.rotate(static_key=NEW_KEY)
        mount.write(static_key=NEW_KEY)
        assert client.send({"xid": "1"}).http_status == 200
        assert client.send({"xid": "2"}).http_status == 200
    assert bank.calls_by_status == {"403": 1, "200": 2}


def test_another_http_client_is_told_to_sign_again(bank, mount, handler):
    bank.rotate(static_key=NEW_KEY)
    url = bank.url + PATH

    def call(*, is_second=False):
        headers = sign_request(handler, "POST", url, b"{}")
        reply = requests.post(url, data=b"{}", headers=headers, timeout=PATIENCE)
        again = handler.note_response(
            handler.get_token(),
            reply.status_code,
            reply.content,
            is_second=is_second,
            headers=reply.headers,
        )
        return reply.status_code, again

    assert call() == (403, False)
    mount.write(static_key=NEW_KEY)
    assert call() == (403, True)
    assert call(is_second=True) == (200, False)


def test_a_login_and_a_call_are_never_signed_by_parts_of_two_sets(bank, secrets):
    sets = []
    for number in range(2):
        new = {"client_secret": f"example-secret-{number}", "static_key": f"example-key-{number}"}
        secrets.add(*new.values())
        bank.rotate(**new, overlap=True)  # the bank takes whole sets alone
        sets.append(bank.credentials())
    turns = iter(range(10**9))
    rotating = RotatingCredentials(lambda: sets[next(turns) % 2], check_secs=0)
    stopped = threading.Event()

    def reload():
        while not stopped.is_set():
            rotating.reload()

    reloads = Call(reload)
    try:
        with LoginHandler(rotating, background=False) as handler, requests.Session() as session:
            session.trust_env = False
            session.auth = PermataAuth(handler)
            for _ in range(30):
                handler.refresh()
                assert session.post(bank.url + PATH, json={}).status_code == 200
    finally:
        stopped.set()
        reloads.join()
    assert bank.refused_logins == 0
    assert bank.calls_by_status == {"200": 30}


# A load that is of no use: the old secret stays, one warning, no login more.


def half_a_set(mount):
    (mount.folder / "permata_static_key").unlink()


def empty(mount):
    mount.secret.write_bytes(b"")


def gone(mount):
    (mount.folder / "..data").unlink()


def no_file(mount):
    mount.secret.unlink()
    mount.secret.mkdir()


def malformed(mount):
    mount.secret.write_text("example with a line\nbreak in it")


BAD = [half_a_set, empty, gone, no_file, malformed]


@pytest.mark.parametrize("spoil", BAD, ids=lambda each: each.__name__)
def test_a_bad_file_leaves_the_old_secret_in_use(bank, mount, handler, session, caplog, spoil):
    spoil(mount)
    for _ in range(5):
        handler.refresh()
        assert session.post(bank.url + PATH, json={}).status_code == 200
    assert (bank.login_attempts, bank.refused_logins) == (6, 0)
    [warning] = warnings_of(caplog)
    assert "the last ones stay in use" in warning


@pytest.mark.parametrize("spoil", BAD, ids=lambda each: each.__name__)
def test_a_bad_file_at_the_worst_time_makes_no_login_storm(bank, mount, handler, caplog, spoil):
    bank.rotate(client_secret=NEW)
    spoil(mount)
    handler.clear_cache()
    for _ in range(100):
        with pytest.raises(InvalidClientError):
            handler.get_token()
    assert bank.login_attempts == 2
    assert len(warnings_of(caplog)) == 1


def test_after_a_good_load_the_next_bad_one_is_told_again(mount, handler, rotating, caplog):
    for _ in range(2):
        empty(mount)
        assert not rotating.reload()
        assert not rotating.reload()
        mount.write()
        assert not rotating.reload()  # the same secret
    assert len(warnings_of(caplog)) == 2


def test_an_optional_value_whose_file_is_gone_is_half_a_set(bank, tmp_path):
    environment = bank.environment()
    name = environment.pop("PERMATA_ORGANIZATION_NAME")
    path = tmp_path / "permata_organization_name"
    path.write_text(name)
    rotating = RotatingCredentials.from_env(environment | {"PERMATA_SECRETS_DIR": str(tmp_path)})
    path.unlink()
    assert not rotating.reload()
    assert rotating.organization_name == name


# A function.


class Vault:
    """Stands in for a secret manager."""

    def __init__(self, bank) -> None:
        self.bank = bank
        self.asked = 0
        self.answer = bank.credentials
        self.threads = []

    def __call__(self):
        self.asked += 1
        self.threads.append(threading.current_thread())
        return self.answer()


@pytest.fixture
def vault(bank, secrets):
    secrets.add(NEW, NEWER)
    return Vault(bank)


def test_a_function_is_asked_once_in_check_secs(bank, vault, clock):
    rotating = RotatingCredentials(vault, check_secs=60)
    with LoginClient(rotating) as client:
        for _ in range(5):
            client.login()
        assert vault.asked == 1
        clock.jump(60)
        client.login()
        assert vault.asked == 1
        clock.jump(1)
        for _ in range(5):
            client.login()
        assert vault.asked == 2
    assert bank.logins == 11


def test_a_function_is_asked_at_once_after_a_refusal(bank, vault, make_handler):
    handler = make_handler(RotatingCredentials(vault))
    handler.get_token()
    bank.rotate(client_secret=NEW)  # the vault knows it
    handler.refresh()
    assert (bank.logins, bank.refused_logins, vault.asked) == (2, 1, 2)
    bank.rotate(client_secret=NEWER)
    vault.answer = lambda: bank.credentials(client_secret=NEW)
    with pytest.raises(InvalidClientError):
        handler.refresh()
    assert (bank.logins, bank.refused_logins, vault.asked) == (2, 2, 3)


def raises():
    raise RuntimeError("example-secret-in-a-foreign-error")


def returns_nothing():
    return None


def returns_a_class():
    return PermataCredentials


def lacks_a_part():
    return PermataCredentials(
        token_url="https://bank.invalid/",
        api_key="x",
        client_id="x",
        client_secret="",
        static_key="",
    )


def has_lost_a_part():
    return credentials(organization_name=None)


@pytest.mark.parametrize(
    "answer",
    [raises, returns_nothing, returns_a_class, lacks_a_part, has_lost_a_part],
    ids=lambda each: each.__name__,
)
def test_a_function_of_no_use_leaves_the_old_secret_in_use(bank, vault, caplog, secrets, answer):
    secrets.add("example-secret-in-a-foreign-error")
    rotating = RotatingCredentials(vault, check_secs=0)
    before = rotating.current
    vault.answer = answer
    with LoginHandler(rotating, background=False) as handler:
        for _ in range(5):
            handler.refresh()
    assert rotating.current is before
    assert (bank.logins, bank.login_attempts) == (5, 5)
    assert len(warnings_of(caplog)) == 1


def test_a_function_of_no_use_at_the_start_is_a_configuration_error(secrets):
    secrets.add("example-secret-in-a-foreign-error")
    for load in (raises, returns_nothing, returns_a_class, lacks_a_part):
        with pytest.raises(ConfigurationError) as caught:
            RotatingCredentials(load)
        assert not secrets.found_in_error(caught.value)
    for wrong in (None, "x", credentials()):
        with pytest.raises(ConfigurationError, match="load must be a function"):
            RotatingCredentials(wrong)
    for wrong in (-1, "60", float("nan")):
        with pytest.raises(ConfigurationError, match="check_secs"):
            RotatingCredentials(credentials, check_secs=wrong)


def test_a_function_that_hangs_costs_its_time_once(bank, vault, clock, caplog):
    rotating = RotatingCredentials(vault, check_secs=60)
    released = threading.Event()

    def hang():
        clock.park(released)
        return bank.credentials(client_secret=NEWER)

    vault.answer = hang
    clock.jump(61)
    clock.runs_free = True  # no thread waits: each wait takes the clock to its end
    began = clock.now()
    with LoginClient(rotating) as client:
        for _ in range(5):
            client.login()
    assert clock.now() - began <= module._MAX_LOAD_SECS
    assert (bank.logins, vault.asked) == (5, 2)
    assert len(warnings_of(caplog)) == 1
    clock.runs_free = False
    released.set()
    for thread in vault.threads[1:]:
        thread.join(PATIENCE)
    assert rotating.client_secret == OLD  # a set that comes too late does not count


def test_after_a_refusal_a_function_has_the_rest_of_the_login_s_budget(bank, vault, clock):
    rotating = RotatingCredentials(vault, check_secs=60)
    released = threading.Event()
    bank.rotate(client_secret=NEW)
    vault.answer = lambda: (clock.park(released), bank.credentials())[1]
    clock.runs_free = True
    began = clock.now()
    with LoginClient(rotating, retry=RetryPolicy(timeout=3.0)) as client:  # noqa: SIM117 - two
        with pytest.raises(InvalidClientError):
            client.login()
    assert clock.now() - began == pytest.approx(3.0)
    assert bank.login_attempts == 1
    clock.runs_free = False
    released.set()
    for thread in vault.threads[1:]:
        thread.join(PATIENCE)


def test_functions_that_hang_do_not_pile_up(bank, vault, clock):
    rotating = RotatingCredentials(vault, check_secs=0)
    released = threading.Event()
    vault.answer = lambda: (clock.park(released), bank.credentials())[1]
    clock.runs_free = True
    for _ in range(20):
        assert not rotating.reload()
    assert vault.asked == 3  # the first, and two that hang
    clock.runs_free = False
    released.set()
    for thread in vault.threads[1:]:
        thread.join(PATIENCE)
    assert rotating.reload() is False


def test_a_function_that_hangs_holds_no_caller_of_a_live_token(bank, vault, make_handler):
    rotating = RotatingCredentials(vault, check_secs=0)
    handler = make_handler(rotating)
    token = handler.get_token()
    entered, released = threading.Event(), threading.Event()

    def hang():
        entered.set()
        assert released.wait(PATIENCE)
        return bank.credentials()

    vault.answer = hang
    reload = Call(rotating.reload)
    assert entered.wait(PATIENCE)
    assert handler.get_token() == token
    released.set()
    reload.join()


# A scheme like any other.


def test_it_is_a_scheme_that_shows_no_secret(rotating, secrets):
    require_members(Scheme, "credentials", rotating)
    assert rotating.key == rotating.current.key
    assert rotating.token_url == rotating.current.token_url
    assert rotating.derive_key("x") == rotating.current.derive_key("x")
    assert not secrets.found_in(repr(rotating), repr(vars(rotating)))
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(rotating)
    with pytest.raises(AttributeError):
        rotating.nothing  # noqa: B018
    with pytest.raises(ConfigurationError, match="other credentials"):
        LoginHandler(rotating, client=LoginClient(rotating.current))


def test_an_event_has_the_names_of_what_changed_and_no_value(mount, rotating, make_handler):
    events = []
    handlers = [make_handler(rotating, name=name, on_event=events.append) for name in ("a", "b")]
    mount.write(static_key=NEW_KEY, client_secret=NEW)
    assert rotating.reload()
    found = [(each.handler, each.fields) for each in events]
    assert found == [(name, ("client_secret", "static_key")) for name in ("a", "b")]
    assert isinstance(events[0], CredentialsReloaded)
    assert handlers


def test_a_handler_that_is_gone_is_told_nothing_and_kept_by_nothing(mount, rotating):
    events = []
    handler = LoginHandler(rotating, on_event=events.append)
    del handler
    mount.write(client_secret=NEW)
    assert rotating.reload()
    assert events == []
    assert rotating.rotation._watching == []


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signal here")
def test_it_reloads_from_a_signal_handler(mount, rotating):
    done = []
    previous = signal.signal(signal.SIGHUP, lambda *_: done.append(rotating.reload()))
    try:
        mount.write(client_secret=NEW)
        signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, previous)
    assert done == [True]
    assert rotating.client_secret == NEW


def test_a_load_that_reloads_waits_for_nothing(bank):
    def load():
        if rotating:
            assert not rotating[0].reload()
        return bank.credentials()

    rotating = []
    rotating.append(RotatingCredentials(load))
    assert not rotating[0].reload()


def test_a_file_written_twice_within_a_tick_is_not_missed(mount, rotating, monkeypatch):
    # As on a file system whose clock ticks slowly: size and times stay the same.
    rotating.rotation.check()
    mount.secret.write_text(f"{NEW}\n")
    rotating.rotation.check()
    seen = rotating.rotation._seen
    mount.secret.write_text(f"{NEWER[:-1]}\n"[: len(NEW)] + "\n")
    rotating.rotation._seen = seen
    wall = _clock.wall() + 10
    monkeypatch.setattr(_clock, "wall", lambda: wall)
    assert rotating.rotation.is_due()


# The handler of an environment.


def test_a_handler_of_an_environment_without_files_has_plain_credentials(bank):
    with LoginHandler.from_env(bank.environment()) as handler:
        assert handler.credentials == bank.credentials()
        assert handler.get_token()


def test_a_handler_of_an_environment_with_files_sees_them_change(bank, mount):
    with LoginHandler.from_env(mount.environment) as handler:
        assert isinstance(handler.credentials, RotatingCredentials)
        handler.get_token()
        mount.write(client_secret=NEW)
        bank.rotate(client_secret=NEW)
        handler.refresh()
    assert (bank.logins, bank.refused_logins) == (2, 0)


def test_a_flag_may_be_a_bool_under_another_prefix_too(bank):
    given = {name.replace("PERMATA_", "TOKO_"): value for name, value in bank.environment().items()}
    given["TOKO_ALLOW_INSECURE_HTTP"] = True
    with LoginHandler.from_env(given, prefix="TOKO_", background=False) as handler:
        assert handler.credentials.allow_insecure_http is True


def test_a_handler_of_an_environment_has_its_store_and_margins(bank, tmp_path):
    pytest.importorskip("filelock")
    environ = bank.environment() | {
        "PERMATA_TOKEN_STORE": f"file://{tmp_path}",
        "PERMATA_REFRESH_BUFFER_SECS": "120",
        "PERMATA_MIN_SCHEDULE_TIME_SECS": "7",
    }
    for _ in range(2):
        with LoginHandler.from_env(environ) as handler:
            handler.get_token()
            assert handler.scheduler.config.refresh_buffer_secs == 120
            assert handler.scheduler.config.min_schedule_time_secs == 7
    assert bank.logins == 1
    with LoginHandler.from_env(environ, store=None, background=False) as handler:
        handler.get_token()
        assert not handler.scheduler.is_active
    assert bank.logins == 2


def test_a_handler_of_an_environment_has_the_variables_of_a_prefix(bank):
    environ = {
        name.replace("PERMATA_", "BANK_"): value for name, value in bank.environment().items()
    }
    with LoginHandler.from_env(environ | {"BANK_BACKGROUND": "off"}, prefix="BANK_") as handler:
        handler.get_token()
        assert not handler.scheduler.is_active
    for name, wrong in {
        "BANK_BACKGROUND": "maybe",
        "BANK_REFRESH_BUFFER_SECS": "-1",
        "BANK_TOKEN_STORE": "ftp://x",
        "BANK_SCHEME": "x",
    }.items():
        with pytest.raises(ConfigurationError, match=name):
            LoginHandler.from_env(environ | {name: wrong}, prefix="BANK_")
    with pytest.raises(ConfigurationError, match="BANK_TOKEN_URL is missing"):
        LoginHandler.from_env({}, prefix="BANK_")


def test_a_handler_of_the_process_has_its_environment(bank, monkeypatch):
    for name, value in bank.environment().items():
        monkeypatch.setenv(name, value)
    with LoginHandler.from_env() as handler:
        assert handler.get_token()
    with pytest.raises(ConfigurationError):
        LoginHandler.from_env({})


def test_a_handler_of_an_environment_may_speak_snap(tmp_path, secrets):
    pytest.importorskip("permata_auth.schemes.snap")
    rsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa")
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    def write():
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        secrets.add(*pem.decode().splitlines()[1:-1])
        path.write_bytes(pem)

    path = tmp_path / "key.pem"
    write()
    environ = {
        "PERMATA_SCHEME": "snap",
        "PERMATA_SNAP_TOKEN_URL": "https://bank.invalid/token",
        "PERMATA_SNAP_CLIENT_ID": "example-client",
        "PERMATA_SNAP_CLIENT_SECRET": "example-client-secret",
        "PERMATA_SNAP_PRIVATE_KEY_FILE": str(path),
        "PERMATA_SNAP_PARTNER_ID": "123456",
        "PERMATA_SNAP_CHANNEL_ID": "95221",
    }
    with LoginHandler.from_env(environ) as handler:
        rotating = handler.credentials
        assert type(rotating.current).__name__ == "SnapCredentials"
        assert not rotating.reload()
        write()
        assert rotating.reload()
    path.unlink()
    with pytest.raises(ConfigurationError, match=r"PERMATA_SNAP_PRIVATE_KEY_FILE .* names no file"):
        LoginHandler.from_env(environ)
