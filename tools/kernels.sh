# Sourced by the scripts that compile the kernels without CMake: `compile_kernels COMPILER FLAGS DIRECTORY [X86]` leaves their object
# files in DIRECTORY, the baseline's alone or those of all instruction sets.
kernel_sources="lucid/kernels/table.cpp lucid/kernels/*/*.cpp"

compile_isa() { # compiler flags directory isa vector_bytes machine_flags
  local source object
  for source in $kernel_sources; do
    [ "$source" = lucid/kernels/cuda/emulate.cpp ] && continue
    object="$3/$4-$(basename "$source" .cpp).o"
    $1 $2 $6 -DLUCID_ISA="$4" -DLUCID_VECTOR_BYTES="$5" -c "$source" -o "$object"
  done
}

compile_kernels() {
  mkdir -p "$3"
  compile_isa "$1" "$2" "$3" baseline 16 ""
  [ "${4:-}" = x86_64 ] || return 0
  compile_isa "$1" "$2" "$3" avx2 32 "-mavx2 -mfma"
  compile_isa "$1" "$2" "$3" avx512 64 "-mavx2 -mfma -mavx512f -mavx512dq -mavx512bw -mavx512vl"
}
