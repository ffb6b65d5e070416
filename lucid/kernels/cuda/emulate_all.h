// The kernel files, in one translation unit; LUCID_T says for which dtype.
#include "elementwise.cu"
#include "gemm.cu"
#include "loss.cu"
#include "norm.cu"
#include "pool.cu"
#include "random.cu"
#include "reduce.cu"
