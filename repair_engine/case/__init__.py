"""One request made ready: what was asked, beside everything that was read for it."""
