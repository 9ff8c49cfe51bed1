from __future__ import annotations

from payments.wsgi import application
from probe import probed

from permata_auth.integrations.django import get_handler

app = probed(application, get_handler)
