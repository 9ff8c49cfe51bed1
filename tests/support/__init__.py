"""What the tests share: a clock to move, a bank to script, threads to gather, secrets to find."""
