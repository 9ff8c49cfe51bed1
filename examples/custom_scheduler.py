"""TokenScheduler by itself: keep anything fresh that expires, here the session of some service.

python custom_scheduler.py
"""

from __future__ import annotations

import threading
import time

from permata_auth import SchedulerConfig, TokenScheduler


class Service:
    """Its session lives for a second, and is renewed half a second before the end."""

    def __init__(self) -> None:
        self.renewed = threading.Semaphore(0)
        self.sessions = 0
        margins = SchedulerConfig(refresh_buffer_secs=0.5, min_schedule_time_secs=0.1)
        self.scheduler = TokenScheduler(margins, name="service")

    def renew(self) -> None:
        """Open a new session and schedule the next; if this raises, it is called again."""
        self.sessions += 1
        self.scheduler.start(time.time() + 1.0, self.renew)
        self.renewed.release()


def main() -> None:
    service = Service()
    service.renew()
    for _ in range(3):
        service.renewed.acquire(timeout=10)
        print(service.sessions, "sessions,", service.scheduler.info())
    service.scheduler.shutdown()


if __name__ == "__main__":
    main()
