// Whether an array has changed since: a fingerprint of its bytes, in the manner of XXH3 (Collet, 2019). Arrays may be
// written to behind lucid's back, so nobody's word is taken for it that weights are those that were packed. Every change of
// a single 64-bit word changes the fingerprint; any other change goes unnoticed with a chance of about 2^-64. It is no part
// of the law, and may differ from one processor to another.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "kernels.h"
#include "threads.h"
#include "vec.h"

namespace lucid {
namespace LUCID_ISA {

constexpr int STRIPES = 16;                       // between two scrambles
constexpr int64_t STRIPE = 64, PIECE = 1 << 18;  // bytes that are taken at a time, and by a thread at a time
typedef uint64_t Words __attribute__((vector_size(STRIPE)));

struct Keys {
    alignas(64) uint64_t of[8 * STRIPES];
    constexpr Keys() : of() {
        uint64_t state = 0;
        for (auto& key : of) {  // SplitMix64 (Steele, Lea and Flood, 2014)
            uint64_t z = state += 0x9E3779B97F4A7C15u;
            z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
            z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
            key = z ^ (z >> 31);
        }
    }
};
static constexpr Keys KEYS;

// (A reference: a vector wider than the processor's is not returned by value alike everywhere.)
typedef uint64_t UnalignedWords __attribute__((vector_size(STRIPE), aligned(1), may_alias));
static inline const UnalignedWords& words_at(const void* p) { return *static_cast<const UnalignedWords*>(p); }

static inline void of_piece(const char* data, int64_t bytes, uint64_t* result) {
    Words sum = {};
    const Words neighbours = {1, 0, 3, 2, 5, 4, 7, 6};
    const auto add = [&](const UnalignedWords& from, int stripe) {
        const Words words = from;
        const Words mixed = words ^ words_at(KEYS.of + stripe * 8);
        sum = sum + __builtin_shuffle(words, neighbours) + (mixed & 0xFFFFFFFFu) * (mixed >> 32);
    };
    const auto scramble = [&](int with) {
        sum = (sum ^ (sum >> 47) ^ words_at(KEYS.of + with * 8)) * 0x9E3779B185EBCA87u;
    };
    for (; bytes >= STRIPE * STRIPES; data += STRIPE * STRIPES, bytes -= STRIPE * STRIPES) {
#pragma GCC unroll 16
        for (int stripe = 0; stripe < STRIPES; ++stripe) {
            __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(data) + 8192 + stripe * STRIPE), 0, 3);
            add(words_at(data + stripe * STRIPE), stripe);
        }
        scramble(0);
    }
    for (int stripe = 0; bytes > 0; ++stripe, data += STRIPE, bytes -= STRIPE) {
        char last[STRIPE] = {};
        std::memcpy(last, data, size_t(smaller(STRIPE, bytes)));
        add(words_at(last), stripe);
    }
    scramble(1);
    std::memcpy(result, &sum, STRIPE);
}

// Writes eight words.
static void fingerprint(const void* data, int64_t bytes, uint64_t* result) {
    const int64_t pieces = (bytes + PIECE - 1) / PIECE;
    uint64_t* const sums = static_cast<uint64_t*>(std::malloc(size_t(8 * pieces + 1) * sizeof(uint64_t)));
    parallel(pieces, [&](int64_t i) {
        const int64_t begin = i * PIECE;
        of_piece(static_cast<const char*>(data) + begin, smaller(PIECE, bytes - begin), sums + 8 * i);
    });
    for (int lane = 0; lane < 8; ++lane) {
        uint64_t total = uint64_t(bytes);
        for (int64_t i = 0; i < pieces; ++i)
            total = (((total << 29) | (total >> 35)) ^ sums[8 * i + lane]) * 0xC2B2AE3D27D4EB4Fu;
        result[lane] = total;
    }
    std::free(sums);
}

}  // namespace LUCID_ISA
}  // namespace lucid
