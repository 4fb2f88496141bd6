"""Explain and repair trained image classifiers: checkpoint in, repaired checkpoint and report out."""
