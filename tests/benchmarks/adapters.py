"""The contestants behind one interface, each set up as its own documentation recommends.

``Adapter(url)`` has the library's default thresholds. With ``is_scaled`` its window of refresh
opens ``margin`` seconds before expiry, by the library's own options; where it has none, ``margin``
is the fixed one, and the measures hand out tokens that live that much longer.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
from datetime import datetime, timedelta, timezone
from importlib import metadata
from pathlib import Path

ID, SECRET, SCOPE = "example-client-id", "example-client-secret", "example-scope/.default"


class Adapter:
    """One way to keep a token. ``get()`` returns a valid one, by whatever means the library has."""

    name: str
    distribution: str
    #: The imports of an application that uses it.
    modules: tuple[str, ...]
    margin = 10
    #: Refreshes ahead of its margin only where the token answer says ``refresh_in``, as Entra's
    #: answers for tokens of some hours do, so the endpoint says it too.
    needs_refresh_in = False
    #: Whether it can share a token between processes, by an option that is documented.
    shares = False
    note = ""

    def __init__(
        self, url: str, *, is_scaled: bool = False, is_cold: bool = True, shared: Path | None = None
    ) -> None:
        raise NotImplementedError

    def get(self) -> str:
        raise NotImplementedError

    def live(self) -> str:
        """The cheapest documented way to a token that is known to live."""
        return self.get()

    @classmethod
    def version(cls) -> str | None:
        """The version that is installed, or None."""
        try:
            for module in cls.modules:
                importlib.import_module(module)
            return metadata.version(cls.distribution)
        except (ImportError, metadata.PackageNotFoundError):
            return None


class PermataAuth(Adapter):
    name, distribution, modules = "permata-auth", "permata-auth", ("permata_auth.handler",)
    shares = True
    note = "signs each login besides (HMAC-SHA256), which the others have no need of"

    def __init__(self, url, *, is_scaled=False, is_cold=True, shared=None):
        import permata_auth as product

        credentials = product.PermataCredentials(
            token_url=url,
            api_key="example-api-key",
            client_id=ID,
            client_secret=SECRET,
            static_key="example-static-key",
        )
        options = {}
        if is_scaled:
            config = product.SchedulerConfig(self.margin, 0.5)
            options = {"scheduler": product.TokenScheduler(config), "clamp_to_lifetime": False}
        if shared:
            options["store"] = product.FileTokenStore(shared)
        self.handler = product.LoginHandler(credentials, **options)
        self.get = self.live = self.handler.get_token


class HandWritten(Adapter):
    name, distribution, modules = "lock + dict by hand", "requests", ("requests",)
    note = "margin of 60 s; the lock is held during the login, as such code does"

    def __init__(self, url, *, is_scaled=False, is_cold=True, shared=None):
        self._url, self._margin = url, self.margin if is_scaled else 60
        self._lock, self._cache = threading.Lock(), {"until": 0.0}

    def get(self):
        with self._lock:
            if time.monotonic() >= self._cache["until"]:
                grant = _log_in(self._url)
                until = time.monotonic() + grant["expires_in"] - self._margin
                self._cache = {"token": grant["access_token"], "until": until}
            return self._cache["token"]


class Google(Adapter):
    name, distribution = "google-auth", "google-auth"
    modules = ("google.oauth2.credentials", "google.auth.transport.requests")
    margin = 225  # fixed in the library
    note = "margin of 225 s is fixed; get() fills a header dict; refresh token grant"

    def __init__(self, url, *, is_scaled=False, is_cold=True, shared=None):
        from google.auth.transport.requests import Request
        from google.oauth2.credentials import Credentials

        self._credentials = Credentials(
            None,
            refresh_token="example-refresh-token",
            token_uri=url,
            client_id=ID,
            client_secret=SECRET,
        )
        self._request = Request()

    def get(self):
        headers = {}
        self._credentials.before_request(self._request, "GET", "https://api.invalid/", headers)
        return headers["authorization"].partition(" ")[2]


class GoogleNonBlocking(Google):
    name = "google-auth, non-blocking"

    def __init__(self, url, **options):
        super().__init__(url, **options)
        self._credentials.with_non_blocking_refresh()


class Botocore(Adapter):
    name, distribution = "botocore RefreshableCredentials", "botocore"
    modules = ("botocore.credentials", "requests")
    note = "logs in by our function (requests); cold: DeferredRefreshableCredentials"

    def __init__(self, url, *, is_scaled=False, is_cold=True, shared=None):
        from botocore import credentials

        def refresh():
            grant = _log_in(url)
            expires = datetime.now(timezone.utc) + timedelta(seconds=grant["expires_in"])
            return {
                "access_key": "example-key",
                "secret_key": "example-secret",
                "token": grant["access_token"],
                "expiry_time": expires.isoformat(),
            }

        if is_cold:  # has no options for its thresholds
            self._credentials = credentials.DeferredRefreshableCredentials(refresh, "example")
            return
        options = {"advisory_timeout": self.margin, "mandatory_timeout": 2} if is_scaled else {}
        self._credentials = credentials.RefreshableCredentials.create_from_metadata(
            refresh(), refresh, "example", **options
        )

    def get(self):
        return self._credentials.get_frozen_credentials().token


class Msal(Adapter):
    name, distribution, modules = "msal", "msal", ("msal",)
    margin, needs_refresh_in, shares = 310, True, True
    note = (
        "takes a token for dead 300 s before its expiry, fixed; refreshes earlier, in the call, "
        "where the answer says refresh_in; shared: msal-extensions' PersistedTokenCache"
    )

    def __init__(self, url, *, is_scaled=False, is_cold=True, shared=None):
        import msal

        cache = None
        if shared:
            from msal_extensions import FilePersistence, PersistedTokenCache

            cache = PersistedTokenCache(FilePersistence(str(shared / "msal.bin")))
        self._client = msal.ConfidentialClientApplication(
            ID,
            client_credential=SECRET,
            authority=_over_tls(url, "/tenant"),
            instance_discovery=False,
            http_client=_session_without_tls(),
            token_cache=cache,
        )

    def get(self):
        return self._client.acquire_token_for_client([SCOPE])["access_token"]


class AzureIdentity(Adapter):
    name, distribution, modules = "azure-identity", "azure-identity", ("azure.identity",)
    margin, needs_refresh_in, shares = 310, True, True
    note = (
        "as msal; live: get_bearer_token_provider(), elsewhere get_token(), as "
        "the provider draws up to 60 s of jitter; shared: TokenCachePersistenceOptions"
    )

    def __init__(self, url, *, is_scaled=False, is_cold=True, shared=None):
        from azure import identity
        from azure.core.pipeline.transport import RequestsTransport

        options = {}
        if shared:
            os.environ["HOME"] = str(shared)
            options["cache_persistence_options"] = identity.TokenCachePersistenceOptions(
                allow_unencrypted_storage=True
            )
        self._credential = identity.ClientSecretCredential(
            "tenant",
            ID,
            SECRET,
            authority=_over_tls(url, ""),
            disable_instance_discovery=True,
            transport=RequestsTransport(session=_session_without_tls(), session_owner=False),
            **options,
        )
        self.live = identity.get_bearer_token_provider(self._credential, SCOPE)

    def get(self):
        return self._credential.get_token(SCOPE).token


class Databricks(Adapter):
    name, distribution, modules = "databricks-sdk", "databricks-sdk", ("databricks.sdk.oauth",)
    margin = 50
    note = (
        "asynchronous refresh on, its window by stale_duration; takes a token for dead 40 s before "
        "its expiry, fixed"
    )

    def __init__(self, url, *, is_scaled=False, is_cold=True, shared=None):
        from databricks.sdk import oauth

        if not is_scaled:
            source = oauth.ClientCredentials(ID, SECRET, url, use_header=True, disable_async=False)
        else:  # the same, but for the option that ClientCredentials does not hand on

            class Source(oauth.Refreshable):
                def refresh(self):
                    form = {"grant_type": "client_credentials"}
                    return oauth.retrieve_token(ID, SECRET, url, form, use_header=True)

            margin = timedelta(seconds=self.margin)
            source = Source(disable_async=False, stale_duration=margin)
        self._source = source

    def get(self):
        return self._source.token().access_token


class _Outgoing:
    """The argument of an auth handler of requests."""

    __slots__ = ("body", "headers", "url")

    def __init__(self):
        self.url, self.headers, self.body = "https://api.invalid/", {}, None

    @property
    def token(self):
        return self.headers["Authorization"].partition(" ")[2]


class Authlib(Adapter):
    name, distribution = "authlib", "Authlib"
    modules = ("authlib.integrations.requests_client",)
    note = "auth handler of requests: get() fills a header; the first login is the caller's call"

    def __init__(self, url, *, is_scaled=False, is_cold=True, shared=None):
        from authlib.integrations.requests_client import OAuth2Session

        options = {"leeway": self.margin} if is_scaled else {}
        self._session = OAuth2Session(
            ID, SECRET, token_endpoint=url, grant_type="client_credentials", **options
        )

    def get(self):
        if self._session.token is None:
            self._session.fetch_token()
        return self._session.token_auth(_Outgoing()).headers["Authorization"].partition(" ")[2]


class RequestsOAuth2Client(Adapter):
    name, distribution = "requests-oauth2client", "requests_oauth2client"
    modules = ("requests_oauth2client",)
    note = "auth handler of requests: get() fills a header"

    def __init__(self, url, *, is_scaled=False, is_cold=True, shared=None):
        from requests_oauth2client import OAuth2Client, OAuth2ClientCredentialsAuth

        options = {"leeway": self.margin} if is_scaled else {}
        client = OAuth2Client(url, auth=(ID, SECRET), testing=True)  # testing: http is allowed
        self._auth = OAuth2ClientCredentialsAuth(client, **options)

    def get(self):
        return self._auth(_Outgoing()).token


class RequestsAuth(Adapter):
    name, distribution, modules = "requests_auth", "requests_auth", ("requests_auth",)
    shares = True
    note = "auth handler of requests: get() fills a header; shared: JsonTokenFileCache"

    def __init__(self, url, *, is_scaled=False, is_cold=True, shared=None):
        from requests_auth import JsonTokenFileCache, OAuth2, OAuth2ClientCredentials

        if shared:
            OAuth2.token_cache = JsonTokenFileCache(str(shared / "tokens.json"))
        options = {"early_expiry": self.margin} if is_scaled else {}
        self._auth = OAuth2ClientCredentials(url, ID, SECRET, **options)

    def get(self):
        return self._auth(_Outgoing()).token


def _log_in(url):
    import requests

    form = {"grant_type": "client_credentials"}
    reply = requests.post(url, form, auth=(ID, SECRET), timeout=30)
    reply.raise_for_status()
    return reply.json()


def _over_tls(url, path):
    """Return an https:// URL, as msal and azure-identity demand; below, it is sent in clear."""
    return "https" + url.removeprefix("http").removesuffix("/token") + path


def _session_without_tls():
    import requests

    class Plain(requests.adapters.HTTPAdapter):
        def send(self, request, **options):
            request.url = request.url.replace("https:", "http:", 1)
            return super().send(request, **options)

    session = requests.Session()
    session.mount("https://127.0.0.1", Plain(max_retries=1))  # as msal's own session has it
    return session


ADAPTERS: dict[str, type[Adapter]] = {
    adapter.name: adapter
    for adapter in (
        PermataAuth,
        Google,
        GoogleNonBlocking,
        Botocore,
        Msal,
        AzureIdentity,
        Databricks,
        Authlib,
        RequestsOAuth2Client,
        RequestsAuth,
        HandWritten,
    )
}
