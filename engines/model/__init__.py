"""The model under test: its description, its samples, and what a user brings instead."""
