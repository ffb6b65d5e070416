#!/usr/bin/env bash
# Everything there is to verify on a machine with an NVIDIA GPU, in one command, in under 10 minutes, with nothing from outside:
#
#   tools/verify_gpu.sh              # all steps, one after the other; a step that fails does not hide the next
#   tools/verify_gpu.sh build sweep  # these steps alone
#
#   build    lucid, without isolation from what is installed, into a temporary directory; the machine is left as it was
#   require  the GPU, and the Python packages that the other steps need
#   compile  every kernel, so that no other step waits for the compiler
#   sweep    every kernel and every operation with its gradients: the GPU's bits against the CPU's
#   models   train steps and inference of all ten models: the GPU's bits against the CPU's
#   certify  the digests of all ten models against golden/, by `lucid-oracle certify --device gpu`
#   bench    the table of tools/bench_gpu.py
#
# Every step has a time limit. Exit status 0: every step that was asked for was run and passed; else 1. certify leaves its
# certificate in golden/hardware (or where VERIFY_GPU_OUT says), bench its record in bench/ there: commit them.
# PYTHON names the interpreter (python3), VERIFY_GPU_LIMIT other seconds for every step. VERIFY_GPU_BACKEND=strict_cuda tries
# the script itself where there is no GPU: it proves nothing about one, and the exit status is then never 0.
# shellcheck disable=SC2329  # the steps are functions that `timeout` runs
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
backend=${VERIFY_GPU_BACKEND:-cuda}
out=${VERIFY_GPU_OUT:-$root/golden/hardware}
all=(build require compile sweep models certify bench)
declare -A limit=([build]=110 [require]=15 [compile]=40 [sweep]=130 [models]=70 [certify]=120 [bench]=90)  # seconds, 575 together

for step in "$@"; do
  [[ " ${all[*]} " == *" $step "* ]] || { echo "verify_gpu: no step $step; there are: ${all[*]}" >&2; exit 2; }
done
steps=("$@")
[ "$#" -gt 0 ] || steps=("${all[@]}")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
site=$work/site
export LUCID_CACHE_DIR=$work/kernels CUPY_CACHE_DIR=$work/cupy PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1

in_place() { # run Python where it finds the lucid that was built, not the source tree's
  (cd "$work" && PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH} "$python" "$@")
}
export -f in_place
export root python backend out work site

build() {
  local name missing=()
  for name in scikit_build_core nanobind numpy; do
    "$python" -c "import $name" 2>/dev/null || missing+=("$name")
  done
  for name in cmake ninja; do
    command -v "$name" >/dev/null || "$python" -c "import $name" 2>/dev/null || missing+=("$name")
  done
  if [ "${#missing[@]}" -gt 0 ]; then
    echo "  missing on this machine: ${missing[*]}; lucid cannot be built without isolation"
    return 1
  fi
  local options=()
  [ "$backend" = cuda ] || options=(-C cmake.define.LUCID_EMULATED=ON)
  "$python" -m pip install --quiet --no-index --no-deps --no-build-isolation --target "$site" -C build-dir="$work/build" \
    "${options[@]}" "$root" || return 1
  in_place -c 'import _lucid_native, lucid; print(" ", lucid.__file__, "with", _lucid_native.isa())'
}

require() { in_place "$root/tools/verify_gpu.py" require --backend "$backend"; }
compile() { in_place "$root/tools/verify_gpu.py" compile --backend "$backend"; }
sweep() { in_place "$root/tools/verify_gpu.py" sweep --backend "$backend" --seconds 115; }
models() {
  local options=()
  [ "$backend" = cuda ] || options=(--narrow)
  in_place "$root/tools/verify_gpu.py" models --backend "$backend" --seconds 60 "${options[@]}"
}

certify() {
  if ! in_place -m oracle.cli certify --help >"$work/help" 2>&1; then
    echo "  lucid-oracle certify does not run here: $(tail -n 1 "$work/help")"
    return 1
  fi
  local name
  name=$(card_name)
  mkdir -p "$out" || return 1
  in_place -m oracle.cli certify --device gpu --directory "$root/golden" --name "$name" -o "$out/$name.json"
}

bench() {
  local options=()
  [ "$backend" = cuda ] || options=(--device cpu --model resnet_18 --size 32 --work eval:2 train:2 --rounds 1)
  in_place "$root/tools/bench_gpu.py" --json "$out/bench/$(card_name).json" "${options[@]}"
}

card_name() { # of the GPU, as part of a file's name
  local name=none
  [ "$backend" != cuda ] || name=$(in_place -c '
import cupy, re
print(re.sub("[^a-z0-9]+", "-", cupy.cuda.runtime.getDeviceProperties(0)["name"].decode().lower()).strip("-"))') || name=unknown
  echo "$name"
}
export -f build require compile sweep models certify bench card_name

declare -A result
status=0 built=yes
for step in "${steps[@]}"; do
  echo "== $step"
  if [ "$step" != build ] && [ ! -d "$site" ]; then # every step runs what was built
    if [ "$built" = no ] || [[ " ${steps[*]} " == *" build "* ]]; then
      result[$step]="not run: lucid was not built"
      status=1
      echo "  ${result[$step]}"
      continue
    fi
    timeout --kill-after=5 "${VERIFY_GPU_LIMIT:-${limit[build]}}" bash -c build || built=no
    if [ "$built" = no ]; then
      result[$step]="not run: lucid was not built"
      status=1
      continue
    fi
  fi
  before=$SECONDS
  timeout --kill-after=5 "${VERIFY_GPU_LIMIT:-${limit[$step]}}" bash -c "$step"
  code=$?
  case $code in
    0) result[$step]="passed" ;;
    124 | 137) result[$step]="over its limit of ${VERIFY_GPU_LIMIT:-${limit[$step]}} s" status=1 ;;
    *) result[$step]="FAILED (status $code)" status=1 ;;
  esac
  result[$step]+=", $((SECONDS - before)) s"
  [ "$step" != build ] || [ "$code" = 0 ] || { built=no; rm -rf "$site"; }
done

echo "== summary, $SECONDS s"
for step in "${steps[@]}"; do printf '%-8s %s\n' "$step" "${result[$step]}"; done
if [ "$backend" != cuda ]; then
  echo "this was $backend, not a GPU: nothing is verified"
  exit 1
fi
exit $status
