"""A Flask app: a signed call in a request, the webhooks of the provider, a health check.

    gunicorn -c gunicorn.conf.py flask_app:app
    flask --app flask_app permata status

Credentials come from the environment, see ``PermataCredentials.from_env``; so does
PERMATA_APP_SECRETS, without which /permata/webhook answers 503.
"""

from __future__ import annotations

import os

from flask import Flask
from flask.typing import ResponseReturnValue

from permata_auth.integrations.flask import PermataAuthExtension, blueprint

permata = PermataAuthExtension()


def create_app() -> Flask:
    app = Flask(__name__)
    app.config["BALANCE_URL"] = os.environ.get(
        "BALANCE_URL", "https://bank.invalid/apiservice/InquiryServices/BalanceInfo/inq"
    )
    permata.init_app(app)
    app.register_blueprint(blueprint, url_prefix="/permata")

    @app.get("/balance/<account>")
    def balance(account: str) -> ResponseReturnValue:
        inquiry = {"BalInqRq": {"InqInfo": {"AccountNumber": account}}}
        reply = permata.session.post(app.config["BALANCE_URL"], json=inquiry)
        return reply.json(), reply.status_code

    return app


app = create_app()
