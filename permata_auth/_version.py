"""The version, in its one home: the build and the User-Agent header read it here."""

__version__ = "0.1.0"
