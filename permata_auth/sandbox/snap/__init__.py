"""The bank's SNAP BI side, both ways: what it answers to merchants, and how it calls them."""
