// Which elements a pooling window covers, and which windows an element, along one axis (ARITHMETIC.md, section 8). Read by the C++
// and by the CUDA kernels.
#pragma once

#include "functions.h"

namespace lucid {

struct Window {
    int64_t begin, end;  // inside the image
    int64_t size;        // inside the padded image
};

// Window `i` of an average pooling.
LUCID_FN Window window(bool adaptive, int64_t i, int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t pad) {
    if (adaptive) {
        const int64_t begin = i * in / out, end = ((i + 1) * in + out - 1) / out;
        return {begin, end, end - begin};
    }
    const int64_t start = i * stride - pad;
    const int64_t padded_end = in + pad, stop = start + kernel < padded_end ? start + kernel : padded_end;
    return {start > 0 ? start : 0, stop < in ? stop : in, stop - start};
}

// The windows that cover one coordinate: first to last.
LUCID_FN void covering(bool adaptive, int64_t position, int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t pad,
                       int64_t& first, int64_t& last) {
    if (adaptive) {
        first = position * out / in;
        last = ((position + 1) * out + in - 1) / in - 1;
        return;
    }
    const int64_t top = position + pad;
    first = top < kernel ? 0 : (top - kernel) / stride + 1;
    last = top / stride < out - 1 ? top / stride : out - 1;
}

}  // namespace lucid
