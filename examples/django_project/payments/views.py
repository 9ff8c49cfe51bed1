"""A signed call in a request."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, JsonResponse

from permata_auth.integrations.django import get_session


def balance(request: HttpRequest, account: str) -> JsonResponse:
    inquiry = {"BalInqRq": {"InqInfo": {"AccountNumber": account}}}
    reply = get_session().post(settings.BALANCE_URL, json=inquiry)
    return JsonResponse(reply.json(), status=reply.status_code)
