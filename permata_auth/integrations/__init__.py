"""Where the handler lives: web frameworks, task queues, metrics. Each module needs its package."""
