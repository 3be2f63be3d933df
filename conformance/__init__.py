"""Judge outputs: compare arrays with a reference, against stated tolerances. Needs NumPy and nothing of the engines."""
