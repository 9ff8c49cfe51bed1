"""What type checkers see of the public names: checked by mypy and pyright, and never run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from typing_extensions import assert_type

from permata_auth import (
    AccessToken,
    CallbackStatusClient,
    CallbackStatusError,
    CallbackStatusResponse,
    CertificateError,
    ClockError,
    ConfigurationError,
    FileTokenStore,
    HandlerInfo,
    Health,
    InvalidClientError,
    InvalidGrantError,
    InvalidRequestError,
    InvalidScopeError,
    InvalidTokenResponseError,
    LoginClient,
    LoginHandler,
    MemoryTokenStore,
    PermataAuth,
    PermataAuthError,
    PermataCredentials,
    RedisTokenStore,
    RequestTimeoutError,
    RetryPolicy,
    SchedulerConfig,
    SchedulerInfo,
    SignatureError,
    TokenEndpointError,
    TokenEndpointUnavailableError,
    TokenScheduler,
    TokenStore,
    TokenStoreError,
    TransportError,
    UnauthorizedClientError,
    UnsupportedGrantTypeError,
    WebhookPayloadError,
    WebhookProcessor,
    WebhookResponse,
    events,
    sign_request,
)
from permata_auth.schemes.base import Scheme
from permata_auth.stores import store_from_env


def credentials() -> None:
    made = PermataCredentials(
        token_url="https://bank.invalid/token",
        api_key="example-api-key",
        client_id="example-client-id",
        client_secret="example-client-secret",
        static_key="example-static-key",
        organization_name=None,
    )
    scheme: Scheme = made
    assert_type(PermataCredentials.from_env(), PermataCredentials)
    assert_type(scheme.key, str)
    assert_type(made.sign("token", "POST", "https://bank.invalid", b"{}"), dict[str, str])


def handler(given: PermataCredentials, note: Callable[[events.Event], None]) -> None:
    with LoginHandler(given, store=MemoryTokenStore(), on_event=note) as made:
        assert_type(made, LoginHandler)
        assert_type(made.get_token(), str)
        assert_type(made.get_token(timeout=1.0, unique_id="u", request_id="r"), str)
        assert_type(made.get_access_token(), AccessToken)
        assert_type(made.refresh(), AccessToken)
        assert_type(made.info(), HandlerInfo)
        assert_type(made.scheduler, TokenScheduler)
        assert_type(made.health(), Health)
        assert_type(made.health().since, datetime | None)
        assert_type(made.wait_until_ready(timedelta(minutes=1)), AccessToken)
        assert_type(made.note_response("token", 200, url="", headers={}, took=0.1), bool)
        made.invalidate("token")
        made.invalidate(made.get_access_token())
        made.clear_cache()
        made.shutdown(timeout=None)


def handler_info(info: HandlerInfo) -> None:
    assert_type(info.fingerprint, str | None)
    assert_type(info.expires_at, datetime | None)
    assert_type(info.seconds_left, float)
    assert_type(info.next_refresh_at, datetime | None)
    assert_type(info.logins, int)
    assert_type(info.last_error, str | None)
    assert_type(info.clock_offset, float)


def token(given: AccessToken) -> None:
    assert_type(given.value, str)
    assert_type(given.expires_at, datetime)
    assert_type(given.issued_at, datetime)
    assert_type(given.token_type, str)
    assert_type(given.scope, str | None)
    assert_type(given.expires_in(), float)
    assert_type(given.fingerprint, str)


def login(given: PermataCredentials) -> None:
    policy = RetryPolicy(attempts=3, timeout=timedelta(seconds=30))
    assert_type(policy.attempts, int)
    assert_type(policy.timeout, float)
    with LoginClient(given, retry=policy, timeout=(5.0, 15.0)) as client:
        assert_type(client.login(), AccessToken)


def scheduler(callback: Callable[[], object]) -> None:
    made = TokenScheduler(SchedulerConfig(timedelta(minutes=5), 60))
    assert_type(made.config, SchedulerConfig)
    assert_type(made.config.refresh_buffer_secs, float)
    assert_type(made.start(datetime.now().astimezone(), callback), bool)
    assert_type(made.is_active, bool)
    info = made.info()
    assert_type(info, SchedulerInfo | None)
    if info is not None:
        assert_type(info.next_refresh_at, datetime)
        assert_type(info.seconds_until_refresh, float)


def signed_calls(given: LoginHandler) -> None:
    session = requests.Session()
    session.auth = PermataAuth(given, canonicalizer="minify")
    assert_type(sign_request(given, "GET", "https://bank.invalid"), dict[str, str])


def callbacks(given: LoginHandler) -> None:
    client = CallbackStatusClient(given, "https://bank.invalid")
    response = client.send({"xid": "example"}, request_id="r")
    assert_type(response, CallbackStatusResponse)
    assert_type(response.http_status, int)
    assert_type(response.status_code, str)
    assert_type(response.body, dict[str, Any])
    processed = WebhookProcessor(client, app_secrets=["example"]).process(b"{}", {})
    assert_type(processed, WebhookResponse)
    assert_type(processed.http_status, int)
    assert_type(processed.forwarded, bool)


def stores(key: str, given: AccessToken) -> None:
    each: list[TokenStore] = [
        MemoryTokenStore(),
        FileTokenStore(Path("folder")),
        RedisTokenStore("redis://localhost"),
    ]
    store = each[0]
    assert_type(store.load(key), AccessToken | None)
    assert_type(store.lock(key), AbstractContextManager[object])
    store.save(key, given)
    store.discard(key, given)
    assert_type(store_from_env(), TokenStore | None)


def errors(
    raised: PermataAuthError,
    no_answer: TransportError | RequestTimeoutError | CertificateError,
    refused: TokenEndpointError,
) -> None:
    assert_type(raised.retryable, bool)
    assert_type(no_answer.retry_after, float | None)
    assert_type(refused.status_code, int | None)
    assert_type(refused.error, str | None)
    assert_type(refused.error_description, str | None)
    assert_type(refused.retry_after, float | None)
    refusals: list[type[TokenEndpointError]] = [
        ClockError,
        InvalidClientError,
        InvalidGrantError,
        InvalidRequestError,
        InvalidScopeError,
        InvalidTokenResponseError,
        TokenEndpointUnavailableError,
        UnauthorizedClientError,
        UnsupportedGrantTypeError,
    ]
    others: list[type[PermataAuthError]] = [
        *refusals,
        CallbackStatusError,
        SignatureError,
        TokenStoreError,
        WebhookPayloadError,
    ]
    as_value_error: type[ValueError] = ConfigurationError
    as_timeout: type[TimeoutError] = RequestTimeoutError
    assert_type((others, as_value_error, as_timeout)[0], list[type[PermataAuthError]])
