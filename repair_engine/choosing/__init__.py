"""Which units go: orders of removal, plans, controls."""
