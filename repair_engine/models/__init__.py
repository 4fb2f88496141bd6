"""From a file to a checkpoint and back: formats, architectures, classes, preprocessing."""
