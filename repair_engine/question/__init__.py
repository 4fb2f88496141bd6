"""What is asked of a network: objectives, subgroups, and the adversary's images."""
