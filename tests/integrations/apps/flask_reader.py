"""A Flask app, something of which reads each body before the webhook endpoint does."""

from __future__ import annotations

from flask import Flask, request

from permata_auth.integrations.flask import PermataAuthExtension, blueprint

app = Flask(__name__)
PermataAuthExtension(app)
app.register_blueprint(blueprint)


@app.before_request
def audit():
    request.get_data()
    request.get_json(silent=True)
