"""Dialects of the bank: how to ask for a token, read the answer, sign a call."""
