#!/usr/bin/env bash
# One run of neuron_repair.py from variables, for pipelines: action.yml and gitlab.yml call it. Ends with its exit code.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
arguments=("${NR_VERB:-repair}")
add() { if [ -n "$2" ]; then arguments+=("$1" "$2"); fi; }
add --model "${NR_MODEL:-}"
add --architecture "${NR_ARCHITECTURE:-}"
add --num-classes "${NR_NUM_CLASSES:-}"
add --data "${NR_DATA:-}"
add --metric "${NR_METRIC:-}"
add --gates "${NR_GATES:-}"
add --timeout "${NR_TIMEOUT:-}"
add --out "${NR_OUT:=neuron-repair}"
split='import shlex, sys; sys.stdout.write("".join(word + "\0" for word in shlex.split(sys.argv[1])))'
while IFS= read -r -d '' word; do arguments+=("$word"); done < <(python3 -c "$split" "${NR_ARGUMENTS:-}")
python3 "$here/neuron_repair.py" "${arguments[@]}"
code=$?
if [ -n "${GITHUB_OUTPUT:-}" ]; then
  run='import json, sys; print(json.load(open(sys.argv[1]))["repair"])'
  echo "repair=$(python3 -c "$run" "$NR_OUT/metrics.json" 2> /dev/null)" >> "$GITHUB_OUTPUT"
  echo "exit-code=$code" >> "$GITHUB_OUTPUT"
fi
exit "$code"
