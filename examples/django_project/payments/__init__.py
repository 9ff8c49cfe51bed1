"""A project that calls the bank: gunicorn payments.wsgi."""
