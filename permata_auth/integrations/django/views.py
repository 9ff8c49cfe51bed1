"""Webhooks and health, to be included in ``urls.py``."""

from __future__ import annotations

from collections.abc import Callable

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe

from ...exceptions import WebhookPayloadError
from ...webhook import WebhookResponse
from .._services import ALIVE
from ._services import current


# Its sender is another server, which has no session here: APP_SECRETS identifies it.
@csrf_exempt
@require_http_methods(["POST", "GET", "HEAD"])
def webhook(request: HttpRequest) -> HttpResponse:
    """Answer one webhook with the bank's response, or the provider's verification by GET.

    Blocks as long as the bank takes.

    Args:
        request: A POST, or the provider's GET.
    """
    if request.method != "POST":
        # Not request.GET, which raises for a query of very many parameters.
        return _response(current().verification(request.META.get("QUERY_STRING", "")))
    return _response(current().webhook(_reader(request), dict(request.headers)))


@never_cache
@require_safe
def health(request: HttpRequest) -> JsonResponse:
    """Say whether calls can be authorised: 200, or 503 after a failed login. Never blocks.

    Args:
        request: A GET or HEAD.
    """
    status, document = current().health()
    return JsonResponse(document, status=status)


@never_cache
@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """Say that this process answers, for a probe that restarts those that do not.

    Args:
        request: A GET or HEAD.
    """
    return JsonResponse(ALIVE)


@never_cache
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """Say whether to send requests here: 200, or 503 while no call could be authorised.

    Args:
        request: A GET or HEAD.
    """
    status, document = current().readiness()
    return JsonResponse(document, status=status)


def _response(answer: WebhookResponse) -> HttpResponse:
    response = HttpResponse(answer.content, content_type=answer.content_type)
    # Not by the constructor, which refuses a status that HTTP does not know: the bank may send one.
    response.status_code = answer.http_status
    if not answer.content:
        del response.headers["Content-Type"]
    response.headers["X-Content-Type-Options"] = "nosniff"  # a challenge is never a page
    return response


def _reader(request: HttpRequest) -> Callable[[int], bytes]:
    def read(limit: int) -> bytes:
        expected = _content_length(request)
        # Before Django reads it: its own limit may be larger, or off.
        if expected > limit:
            raise WebhookPayloadError("the body is too large", status_code=413)
        try:
            body = request.body
        except RequestDataTooBig:
            raise WebhookPayloadError("the body is too large", status_code=413) from None
        if not body or len(body) < expected:
            raise WebhookPayloadError("the body did not arrive")
        return body

    return read


def _content_length(request: HttpRequest) -> int:
    text = request.META.get("CONTENT_LENGTH") or "0"
    return int(text) if text.isdecimal() else 0
