"""Webhooks, health check and SNAP of permata_auth, and a view that calls the bank."""

from __future__ import annotations

from django.conf import settings
from django.urls import include, path, re_path

from permata_auth.integrations.django.snap import snap_view

from . import views

urlpatterns = [
    path("permata/", include("permata_auth.integrations.django.urls")),
    path("balance/<str:account>", views.balance),
]
if settings.TAKES_SNAP_CALLS:
    urlpatterns.append(re_path(r"^v[0-9.]+/", snap_view()))
