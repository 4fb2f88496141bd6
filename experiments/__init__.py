"""The tables and figures of Ghorbani & Zou 2020 (arXiv 2002.09815) on real data; see README.md."""
