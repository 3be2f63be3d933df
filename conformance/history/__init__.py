"""Compare the results of two runs: what got slower, less accurate, larger, skipped, broken or lost, and what better."""
