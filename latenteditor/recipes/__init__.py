"""Recipes of reproducible edits: read, checked against the methods, and run stage by stage."""
