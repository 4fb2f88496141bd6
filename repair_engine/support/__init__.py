"""What any program needs; knows nothing of networks."""
