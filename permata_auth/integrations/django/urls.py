"""The webhook and the probes, for ``include("permata_auth.integrations.django.urls")``."""

from __future__ import annotations

from django.urls import path

from . import views

app_name = "permata_auth"
urlpatterns = [
    path("webhook", views.webhook, name="webhook"),
    path("health", views.health, name="health"),
    path("health/live", views.live, name="health-live"),
    path("health/ready", views.ready, name="health-ready"),
]
