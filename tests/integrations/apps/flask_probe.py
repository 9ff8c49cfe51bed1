from __future__ import annotations

from flask_app import app as flask_app
from flask_app import permata
from probe import probed


def handler():
    with flask_app.app_context():
        return permata.handler


app = probed(flask_app.wsgi_app, handler)
