"""Print the tables of faults as Markdown, one for each dialect: ``python -m tests.faults``."""

from .matrix import FAULTS, document

for scheme in FAULTS:
    print(f"{scheme}\n\n{document(scheme)}\n")
