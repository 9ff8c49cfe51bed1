"""What gevent asks for with preload_app: to be the first, before anything imports ssl."""

from gevent import monkey

monkey.patch_all()
