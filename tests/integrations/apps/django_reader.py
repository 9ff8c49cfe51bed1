"""A Django project, a middleware of which reads each body before the webhook endpoint does."""

from __future__ import annotations

import contextlib

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="example-secret-key",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF="permata_auth.integrations.django.urls",
    INSTALLED_APPS=["permata_auth.integrations.django"],
    MIDDLEWARE=[
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django_reader.audit",
    ],
    LOGGING_CONFIG=None,
)
django.setup()

from django.core.wsgi import get_wsgi_application


def audit(get_response):
    def middleware(request):
        with contextlib.suppress(Exception):  # a form that is none is no concern of its
            _ = (request.body, request.POST)
        return get_response(request)

    return middleware


app = get_wsgi_application()
