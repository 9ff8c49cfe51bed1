"""Webhooks and health, to be included in ``urls.py``."""

from __future__ import annotations

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, JsonResponse, UnreadablePostError
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from .._services import failure
from ._services import current


# Its sender is another server, which has no session here: APP_SECRETS tells who it is.
@csrf_exempt
@require_POST
def webhook(request: HttpRequest) -> JsonResponse:
    """Answer one webhook with what the bank says to it. Blocks as long as the bank takes."""
    processor = current().webhooks
    try:
        body = _body(request, processor._max_body_bytes)
    except RequestDataTooBig:
        status, document = failure(413, "the body is too large")
    except UnreadablePostError:
        status, document = failure(400, "the body did not arrive")
    else:
        answer = processor.process(body, dict(request.headers))
        status, document = answer.http_status, answer.body
    return JsonResponse(document, status=status)


@never_cache
@require_safe
def health(request: HttpRequest) -> JsonResponse:
    """Say whether calls can be authorised: 200, or 503 after a failed login. Never blocks."""
    status, document = current().health()
    return JsonResponse(document, status=status)


def _body(request: HttpRequest, limit: int) -> bytes:
    # Before Django reads it: its own limit may be larger, or off.
    if int(request.META.get("CONTENT_LENGTH") or 0) > limit:
        raise RequestDataTooBig
    return request.body
