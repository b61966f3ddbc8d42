"""Pieces of the HTML page."""
