"""What adversaries achieve against a model, and against its repair: honest rows, curves, self-tests."""
