"""Which filters a behaviour is made of: rankings, removal curves, pictures of filters, comparison of two results."""
