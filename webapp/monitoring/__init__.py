"""What machines ask the web process: is it there, can it work, and how is everything; and what it tells the log."""
