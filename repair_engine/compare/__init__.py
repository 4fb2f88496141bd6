"""Two results of `explain`, `score` or `repair` side by side: do they hold the same filters responsible?"""
