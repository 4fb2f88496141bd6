"""Records to HTML: pages that stand alone, with charts drawn on the server."""
