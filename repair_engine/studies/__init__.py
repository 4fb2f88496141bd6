"""What is measured beside a repair: curves, rankings, pictures of filters, attack rows, subgroups, two runs."""
