"""What type checkers see of the public names: checked by mypy and pyright, and never run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from decimal import Decimal
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
    RotatingCredentials,
    SchedulerConfig,
    SchedulerInfo,
    SignatureError,
    SnapCredentials,
    TokenEndpointError,
    TokenEndpointUnavailableError,
    TokenScheduler,
    TokenStore,
    TokenStoreError,
    Transport,
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
from permata_auth.schemes.explained import Explanation, SignedCall
from permata_auth.snap_inbound import (
    ExternalIds,
    MemoryExternalIds,
    RedisExternalIds,
    SnapAmount,
    SnapAnswer,
    SnapCall,
    SnapReceiver,
    SnapRefusal,
    SnapResponse,
    VaBill,
    VaInquiry,
    VaPayment,
    VaReceipt,
)
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


def snap_credentials() -> None:
    made = SnapCredentials(
        token_url="https://bank.invalid/snap/v1.0/access-token/b2b",
        client_id="example-client",
        client_secret="example-client-secret",
        private_key_file=Path("key.pem"),
        private_key_passphrase=None,
        partner_id="example-partner",
        channel_id="95221",
        transaction_signature="symmetric",
        sign_query=True,
        external_id_length=32,
        external_id=lambda: "1",
    )
    scheme: Scheme = made
    assert_type(SnapCredentials.from_env({}, prefix="X_", external_id=None), SnapCredentials)
    assert_type(scheme.key, str)
    assert_type(made.needs_token, bool)
    assert_type(made.sign("token", "POST", "https://bank.invalid", b"{}"), dict[str, str])
    if made.outcome(None, b"") == "duplicate_request":
        return
    call = SignedCall(method="POST", url="https://bank.invalid", body=b"{}", token="token")
    assert_type(made.explain(call), Explanation)
    assert_type(made.explain(call).recognise("signature"), str)


def snap_inbound(pay: Callable[[SnapCall], dict[str, Any] | SnapAnswer]) -> None:
    ids: list[ExternalIds] = [MemoryExternalIds(), RedisExternalIds("redis://localhost")]
    made = SnapReceiver(
        client_key="example-bank",
        bank_public_keys=["example"],
        client_secrets=["example"],
        external_ids=ids[0],
        max_skew_secs=timedelta(minutes=5),
    )
    assert_type(SnapReceiver.from_env({}), SnapReceiver)
    made.on("/transfer-va/payment", 25, pay)
    answered = made.process("POST", "/v1.0/transfer-va/payment", {}, b"{}")
    assert_type(answered, SnapResponse)
    assert_type(made.process("POST", "/", {}, b"", around=nullcontext), SnapResponse)
    made.events.add(lambda event: assert_type(event, events.Event))
    assert_type(answered.http_status, int)
    assert_type(answered.body, bytes)
    raise SnapRefusal("12", "Bill not found", http_status=404, body=None)


def snap_call(call: SnapCall) -> None:
    assert_type(call.service, int)
    assert_type(call.path, str)
    assert_type(call.external_id, str)
    assert_type(call.partner_id, str)
    assert_type(call.channel_id, str)
    assert_type(call.body, dict[str, Any])
    assert_type(call.raw, bytes)
    assert_type(call.timestamp, datetime)
    assert_type(MemoryExternalIds().add("key", 5.0), bool)


def virtual_accounts(made: SnapReceiver) -> None:
    def inquire(inquiry: VaInquiry) -> VaBill:
        assert_type(inquiry.number, str)
        assert_type(inquiry.partner_service_id, str)
        assert_type(inquiry.customer_no, str)
        assert_type(inquiry.virtual_account_no, str)
        assert_type(inquiry.inquiry_request_id, str)
        assert_type(inquiry.amount, SnapAmount | None)
        assert_type(inquiry.call, SnapCall)
        return VaBill(name="Ani", amount=SnapAmount(Decimal(10000), "IDR"), more={"a": 1})

    def pay(payment: VaPayment) -> VaReceipt:
        assert_type(payment.number, str)
        assert_type(payment.payment_request_id, str)
        assert_type(payment.paid_amount, SnapAmount)
        assert_type(payment.paid_amount.value, Decimal)
        assert_type(payment.paid_amount.currency, str)
        assert_type(payment.total_amount, SnapAmount | None)
        assert_type(payment.flag_advise, bool)
        return VaReceipt(name=None, more={})

    made.on_inquiry(inquire)
    made.on_payment(pay, path="/transfer-va/payment")
    made.on_inquiry(lambda inquiry: {"virtualAccountName": inquiry.number})
    made.on_payment(lambda payment: SnapAnswer({"a": payment.number}, http_status=202))
    made.on_inquiry(pay)  # type: ignore[arg-type]  # a function of payments


def inbound_event(event: events.InboundCallAnswered) -> None:
    assert_type(event.service, int)
    assert_type(event.response_code, str)
    assert_type(event.outcome, str)
    assert_type(event.check, str | None)
    assert_type(event.is_replay, bool)
    assert_type(event.duration, float)


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


def rotating(load: Callable[[], PermataCredentials]) -> None:
    made = RotatingCredentials(load, check_secs=timedelta(seconds=60))
    scheme: Scheme = made
    assert_type(made.current, Scheme)
    assert_type(made.reload(), bool)
    assert_type(RotatingCredentials.from_env({}, prefix="BANK_"), RotatingCredentials)
    with LoginHandler.from_env({}, prefix="BANK_", store=None) as handler:
        assert_type(handler, LoginHandler)
    LoginHandler(scheme)


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


def transport(given: PermataCredentials) -> None:
    made = Transport("client.pem", Path("key.pem"), ca_bundle=Path("ca.pem"), proxy="http://x:1")
    assert_type(Transport(client_key_password="p").expires_at, datetime | None)
    assert_type(Transport.from_env({}, prefix="X_"), Transport)
    assert_type(made.proxy, str | None)
    assert_type(made.session(pool_size=5), requests.Session)

    class Own(requests.Session):
        pass

    assert_type(made.mount(Own()), Own)
    assert_type(LoginClient(given, transport=made).transport, Transport | None)
    assert_type(LoginHandler(given, transport=made).transport, Transport | None)
    CallbackStatusClient(LoginHandler(given), "https://x/", transport=made)


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
