"""Print the table of faults as Markdown: ``python -m tests.faults``."""

from .matrix import document

print(document())
