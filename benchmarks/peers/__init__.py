"""Other people's estimators, each as a function of mask vectors over the same captured network."""
