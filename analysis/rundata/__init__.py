"""Reads run directories (docs/run.md). Nothing here needs the program, the model or the data."""
