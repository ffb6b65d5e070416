#!/usr/bin/env bash
# The kernels under ThreadSanitizer, at four threads, on every instruction set of this processor. Exit status 0: no race.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags="-std=gnu++17 -O1 -g -fsanitize=thread -ffp-contract=off -fno-math-errno -fno-trapping-math -pthread"
sources="tools/kernel_digest.cpp lucid/kernels/isa.cpp lucid/kernels/threads.cpp lucid/kernels/memory.cpp lucid/kernels/isa_baseline.cpp"
objects=()
if [ "$(uname -m)" = x86_64 ]; then
  g++ $flags -mavx2 -mfma -c lucid/kernels/isa_avx2.cpp -o "$work/avx2.o"
  g++ $flags -mavx2 -mfma -mavx512f -mavx512dq -mavx512bw -mavx512vl -c lucid/kernels/isa_avx512.cpp -o "$work/avx512.o"
  objects=("$work/avx2.o" "$work/avx512.o")
fi
g++ $flags $sources "${objects[@]}" -o "$work/digest"
for isa in avx512 avx2 baseline; do
  status=0
  LUCID_NUM_THREADS=4 "$work/digest" "$isa" > "$work/$isa.txt" 2> "$work/log.txt" || status=$?
  [ $status -eq 2 ] && continue
  [ $status -eq 0 ] || { cat "$work/log.txt"; exit 1; }
  echo "$isa: no data race"
done
