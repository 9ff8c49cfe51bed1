"""The smallest settings with which the project runs."""

from __future__ import annotations

import os

SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "example-secret-key")
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "payments.urls"
INSTALLED_APPS = ["permata_auth.integrations.django"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
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

BALANCE_URL = os.environ.get(
    "BALANCE_URL", "https://bank.invalid/apiservice/InquiryServices/BalanceInfo/inq"
)
