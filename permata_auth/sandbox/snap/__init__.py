"""The bank's SNAP BI side, both ways: its answers to merchants, and its calls of them."""
