"""Compact export: culprits that are physically removed. Smaller, re-measured, and never called equal to the repair."""
