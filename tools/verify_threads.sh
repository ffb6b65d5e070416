#!/usr/bin/env bash
# The kernels under ThreadSanitizer, at four threads, on every instruction set of this processor. Exit status 0: no race.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/kernels.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags="-std=gnu++17 -O1 -g -fsanitize=thread -ffp-contract=off -fno-math-errno -fno-trapping-math -pthread"
sources="tools/kernel_digest.cpp lucid/kernels/isa.cpp lucid/kernels/threads.cpp lucid/kernels/memory.cpp"
compile_kernels g++ "$flags" "$work/objects" "$(uname -m)"
g++ $flags $sources "$work"/objects/*.o -o "$work/digest"
for isa in avx512 avx2 baseline; do
  status=0
  LUCID_NUM_THREADS=4 "$work/digest" "$isa" > "$work/$isa.txt" 2> "$work/log.txt" || status=$?
  [ $status -eq 2 ] && continue
  [ $status -eq 0 ] || { cat "$work/log.txt"; exit 1; }
  echo "$isa: no data race"
done
