"""Explain and repair trained image classifiers: checkpoint in, culprit filters, repaired checkpoint, report."""
