"""Bad input, millions of times: what is fed in, what must hold, and an independent opinion."""
