"""Many lives of a token on end, among faults, forks and outages: does anything grow or fail?"""
