"""The samples that ship, and the scripts that make them."""
