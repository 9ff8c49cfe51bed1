"""Many lives of a token on end, among faults, forks and outages: nothing may grow or fail."""
