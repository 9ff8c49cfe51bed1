"""Web frameworks, task queues and metrics. Each module needs the package that it is named after."""
