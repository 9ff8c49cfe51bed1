"""The smallest settings with which the project runs."""

from __future__ import annotations

import os

SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "example-secret-key")
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "payments.urls"
INSTALLED_APPS = ["permata_auth.integrations.django", "payments"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
# The table of invoices: python manage.py migrate --run-syncdb
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DJANGO_DATABASE", "invoices.db"),
        "OPTIONS": {"timeout": 20},
    }
}
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": os.environ.get("DJANGO_CACHE_URL", "redis://localhost"),
    }
}

# Other settings come from the environment: PERMATA_CLIENT_SECRET and the other credentials, and
# PERMATA_APP_SECRETS, without which /permata/webhook answers 503.
PERMATA_AUTH = {
    "REFRESH_BUFFER_SECS": 180,
    "TOKEN_STORE": os.environ.get("PERMATA_TOKEN_STORE", "cache:default"),
}

# Where the bank calls this project by SNAP: its key, the secret and so on come from the environment
# (SnapReceiver.from_env), and all workers share what they have seen.
TAKES_SNAP_CALLS = "PERMATA_SNAP_INBOUND_CLIENT_KEY" in os.environ
if TAKES_SNAP_CALLS:
    PERMATA_AUTH["SNAP_INBOUND_EXTERNAL_IDS"] = "cache:default"

BALANCE_URL = os.environ.get(
    "BALANCE_URL", "https://bank.invalid/apiservice/InquiryServices/BalanceInfo/inq"
)
