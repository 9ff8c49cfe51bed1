"""Django for this process: configured once, since Django allows no more."""

from __future__ import annotations

import atexit
import shutil
import tempfile

import django
from django.conf import settings


def _database() -> str:
    """Return a database of this process's own, removed at its end."""
    folder = tempfile.mkdtemp(prefix="django-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return f"{folder}/database"


if not settings.configured:
    settings.configure(
        SECRET_KEY="example-secret-key",
        ALLOWED_HOSTS=["testserver"],
        ROOT_URLCONF="permata_auth.integrations.django.urls",
        INSTALLED_APPS=["permata_auth.integrations.django"],
        MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
        CACHES={
            "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
            "database": {
                "BACKEND": "django.core.cache.backends.db.DatabaseCache",
                "LOCATION": "cache",
            },
            "nowhere": {
                "BACKEND": "django.core.cache.backends.redis.RedisCache",
                "LOCATION": "redis://127.0.0.1:1",
            },
        },
        DATABASES={
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": _database()},
        },
        USE_TZ=True,
    )
    django.setup()
