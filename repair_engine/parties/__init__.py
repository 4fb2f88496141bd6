"""Several parties (hospitals, companies), each with images that may not leave it: common constants, merged estimates.

Everything goes by small files: sums of the filters' outputs (`channel_sums`), and the estimates that `score --out`
leaves (`estimates`). No image and no image's name is in them.
"""
