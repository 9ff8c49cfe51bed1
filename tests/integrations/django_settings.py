"""Django for this process: configured once, since Django allows no more."""

from __future__ import annotations

import django
from django.conf import settings

if not settings.configured:
    settings.configure(
        SECRET_KEY="example-secret-key",
        ALLOWED_HOSTS=["testserver"],
        ROOT_URLCONF="permata_auth.integrations.django.urls",
        INSTALLED_APPS=["permata_auth.integrations.django"],
        MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
        CACHES={
            "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
            "nowhere": {
                "BACKEND": "django.core.cache.backends.redis.RedisCache",
                "LOCATION": "redis://127.0.0.1:1",
            },
        },
        USE_TZ=True,
    )
    django.setup()
