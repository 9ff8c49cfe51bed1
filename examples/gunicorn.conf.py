"""gunicorn -c gunicorn.conf.py flask_app:app

Workers that log in once between them: PERMATA_TOKEN_STORE=file:///run/permata (or redis://…).
"""

bind = "127.0.0.1:8000"
workers = 2
worker_class = "gthread"
threads = 4
# The app is loaded once, in the master, which never uses the handler: it has no timer and no
# connection that a fork would have to share. Each worker makes its own at its first request.
preload_app = True
