"""Measurements behind the claims about speed: ratios, measured side by side in one run."""
