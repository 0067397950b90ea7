"""The coordinator: it sees weights, metrics and counts, never a participant's row."""
