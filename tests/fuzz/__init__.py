"""Bad input, millions of times: what is fed in, what must hold, and an opinion of one's own on it."""
