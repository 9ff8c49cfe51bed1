"""Bad input, millions of times: the cases, the invariants, and an independent opinion."""
