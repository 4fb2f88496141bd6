"""python -m benchmarks [throughput] [--case NAME] [--device cpu|cuda] [--seconds S] [--json]"""

from __future__ import annotations

import argparse
import json

import torch

from benchmarks import throughput


def main() -> None:
    """Prints a Markdown table, or JSON with one record per method."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("part", nargs="?", choices=("throughput",), default="throughput")
    parser.add_argument("--case", choices=tuple(throughput.CASES), action="append")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--seconds", type=float, default=4.0, help="per method and round (three rounds)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    records = [r for case in args.case or throughput.CASES for r in throughput.measure(case, args.device, args.seconds)]
    if args.json:
        print(json.dumps({"machine": throughput.machine(), "records": records}, indent=1))
        return
    print(throughput.machine())
    print("\n| case | filters | method | evaluations/s | ratio to full forwards |\n|---|---:|---|---:|---:|")
    for r in records:
        print(
            f"| {r['case']} | {r['filters']:,} | {r['method']} | "
            f"{r['evaluations_per_second']:,.0f} | {r['ratio']:.2f} |"
        )


if __name__ == "__main__":
    main()
