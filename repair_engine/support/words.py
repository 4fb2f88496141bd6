"""Quantities in words, as every page and message writes them."""

from __future__ import annotations


def length(value: float, norm: str) -> str:
    """A length as ℓ∞ is usually written, in parts of 255, or as it is."""
    return f"{value * 255:.4g}/255" if norm == "linf" else f"{value:.4g}"
