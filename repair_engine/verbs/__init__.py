"""One file a verb: its phases, the files that it writes, and their verification."""
