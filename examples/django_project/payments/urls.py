"""The webhooks and health check of permata_auth, and a view that calls the bank."""

from __future__ import annotations

from django.urls import include, path

from . import views

urlpatterns = [
    path("permata/", include("permata_auth.integrations.django.urls")),
    path("balance/<str:account>", views.balance),
]
