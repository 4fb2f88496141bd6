"""Measurements on a GPU that is at hand for minutes only: planned, bounded in time, gone on with where they ended."""
