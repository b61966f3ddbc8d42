"""The pictures; each function returns a matplotlib figure, or None if the run has nothing to show there."""
