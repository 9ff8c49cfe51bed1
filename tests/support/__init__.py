"""Tools of the tests: a clock to move, a bank to script, threads to gather, secrets to find."""
