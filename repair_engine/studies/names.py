"""What the rankings and the ends of a removal are called, in code and in documents. Imports nothing heavy."""

SHAPLEY = "Shapley value"
NEAREST_ZERO = "Shapley value, nearest zero"  # at the least critical end only
WEIGHTS = "weight norm"
RESPONSES = "response norm"
LEAVE_ONE_OUT = "leave-one-out"
RANDOM = "random"

MOST, LEAST = "most critical first", "least critical first"
ENDS = (MOST, LEAST)

ALONE = {"filter": "filters alone", "hidden": "hidden units alone", "head": "attention heads alone"}  # by Shapley value
