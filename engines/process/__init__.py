"""Runners in processes of their own: samples go there through shared memory, and run while they still arrive."""
