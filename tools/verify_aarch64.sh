#!/usr/bin/env bash
# The kernels on aarch64: cross-compiles them, runs them under qemu-user, and compares every digest with this machine's.
# Needs g++-aarch64-linux-gnu and qemu-user (Debian's packages of these names). Exit status 0: the same bits.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/kernels.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for tool in aarch64-linux-gnu-g++ qemu-aarch64; do
  command -v "$tool" >/dev/null || { echo "verify_aarch64: $tool is missing: apt-get install g++-aarch64-linux-gnu qemu-user" >&2; exit 2; }
done
flags="-std=gnu++17 -O3 -ffp-contract=off -fno-math-errno -fno-trapping-math -pthread"
common="tools/kernel_digest.cpp lucid/kernels/isa.cpp lucid/kernels/threads.cpp lucid/kernels/memory.cpp"

echo "aarch64: compiling" >&2
compile_kernels aarch64-linux-gnu-g++ "$flags" "$work/objects64"
aarch64-linux-gnu-g++ $flags -static $common "$work"/objects64/*.o -o "$work/aarch64"
echo "aarch64: running under qemu" >&2
LUCID_NUM_THREADS=1 qemu-aarch64 "$work/aarch64" > "$work/aarch64.txt"

echo "this machine: compiling" >&2
compile_kernels g++ "$flags" "$work/objects" "$(uname -m)"
g++ $flags $common "$work"/objects/*.o -o "$work/here"

status=0
for isa in avx512 avx2 baseline; do
  "$work/here" "$isa" > "$work/here.txt" 2>/dev/null || continue
  if diff "$work/aarch64.txt" "$work/here.txt" > "$work/diff.txt"; then
    echo "aarch64 and $isa: the same bits in all $(wc -l < "$work/here.txt") families"
  else
    echo "aarch64 and $isa differ (<: aarch64):"; cat "$work/diff.txt"; status=1
  fi
done
exit $status
