"""Two results of `explain` or `score` side by side: do they hold the same filters responsible?"""
