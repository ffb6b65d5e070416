// The order of rows: ARITHMETIC.md, section 4.3. Floats become whole numbers in the same order, which are sorted digit by digit
// from the lowest on: that keeps equal ones in their order. Every step has one result, however it is shared out.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "../kernels.h"
#include "../order.h"
#include "../threads.h"
#include "../tuning.h"
#include "../vec.h"

namespace lucid {
namespace LUCID_ISA {

constexpr int DIGIT_BITS = 8, DIGITS = 1 << DIGIT_BITS;  // of a pass: counts and open lines stay in the L1 cache [cache]
constexpr int64_t FEW_TO_SORT = 64;       // elements that are sorted by insertion [chosen]
constexpr int LOOKED_AT = 32;             // elements that are compared with the k-th side by side [chosen]
constexpr int64_t LONG_ROW = 32768;       // elements from which several threads share a row [chosen]
constexpr int64_t MOST_OF_A_ROW = 8;      // topk of an eighth of a row or more sorts all of it [chosen]

template <class T>
struct Bits {
    using type = uint32_t;
};
template <>
struct Bits<double> {
    using type = uint64_t;
};
template <class T>
using Key = typename Bits<T>::type;

// Whole numbers in the order of floats: zeros of both signs are equal, and so are NaN, above all numbers.
template <class T>
inline Key<T> order_key(T value, bool descending) {
    using K = Key<T>;
    constexpr K SIGN = K(1) << (8 * sizeof(K) - 1), INFINITE = sizeof(K) == 4 ? K(0x7F800000) : K(uint64_t(0x7FF) << 52);
    K bits;
    std::memcpy(&bits, &value, sizeof bits);
    const K magnitude = bits & ~SIGN;
    K key = bits & SIGN ? SIGN - magnitude : SIGN + magnitude;
    key = magnitude > INFINITE ? ~K(0) : key;
    return descending ? ~key : key;
}

template <class K, class At>
struct Item {
    K key;
    At at;
};

// `body(piece)` for every piece; a single one here, whatever thread this is.
template <class Body>
inline void for_pieces(int64_t pieces, const Body& body) {
    if (pieces == 1) return body(int64_t(0));
    parallel(pieces, body);
}

template <class I>
static void insertion_sort(int64_t n, I* items) {
    for (int64_t i = 1; i < n; ++i) {
        const I item = items[i];
        int64_t j = i;
        for (; j > 0 && item.key < items[j - 1].key; --j) items[j] = items[j - 1];
        items[j] = item;
    }
}

// Where each piece puts its first item of each digit: counts[piece][digit], in the order of digits, then of pieces. Returns
// whether all items have one digit.
inline bool starts_of_digits(int64_t pieces, int digits, int64_t n, int64_t* counts) {
    int64_t sum = 0;
    for (int digit = 0; digit < digits; ++digit) {
        const int64_t before = sum;
        for (int64_t p = 0; p < pieces; ++p) {
            const int64_t count = counts[p * digits + digit];
            counts[p * digits + digit] = sum;
            sum += count;
        }
        if (sum - before == n) return true;
    }
    return false;
}

// Sorts `items`; `other` is room for as many, `counts` for DIGITS numbers a piece. Returns where they are then.
template <class I>
static I* radix_sort(int64_t n, I* items, I* other, int64_t pieces, int64_t* counts) {
    if (n <= FEW_TO_SORT) return insertion_sort(n, items), items;
    for (int shift = 0; shift < int(8 * sizeof(items->key)); shift += DIGIT_BITS) {
        for_pieces(pieces, [&](int64_t p) {
            int64_t* count = counts + p * DIGITS;
            std::memset(count, 0, DIGITS * sizeof *count);
            for (int64_t i = n * p / pieces; i < n * (p + 1) / pieces; ++i) ++count[(items[i].key >> shift) % DIGITS];
        });
        if (starts_of_digits(pieces, DIGITS, n, counts)) continue;
        for_pieces(pieces, [&](int64_t p) {
            int64_t* to = counts + p * DIGITS;
            for (int64_t i = n * p / pieces; i < n * (p + 1) / pieces; ++i)
                other[to[(items[i].key >> shift) % DIGITS]++] = items[i];
        });
        I* const sorted = other;
        other = items;
        items = sorted;
    }
    return items;
}

// The first k, and others beside them before they are sorted.
inline int64_t room_to_choose(int64_t k) { return 2 * k + 2 * LOOKED_AT; }

// What a row is ordered in: twice `n` items, and counts of digits and one number more for each piece.
template <class I>
struct Room {
    I *items, *other;
    int64_t* counts;
    Room(int64_t n, int64_t pieces)
        : items(static_cast<I*>(std::malloc(size_t(2 * n + 1) * sizeof(I)))), other(items + n),
          counts(static_cast<int64_t*>(std::malloc(size_t(pieces * (DIGITS + 1)) * sizeof(int64_t)))) {}
    ~Room() {
        std::free(items);
        std::free(counts);
    }
};

// `order(row, room, pieces)` for every row: rows side by side, or, of few long ones, one after the other in pieces.
template <class I, class Order>
static void for_sorted_rows(int64_t rows, int64_t terms, int64_t room_for, const Order& order) {
    const int64_t threads = num_threads();
    if (rows < threads && terms >= LONG_ROW) {
        Room<I> room(room_for, threads);
        for (int64_t row = 0; row < rows; ++row) order(row, room, threads);
        return;
    }
    parallel_range(rows, larger<int64_t>(1, Tuning::SLOW_GRAIN / larger<int64_t>(1, terms)), [&](int64_t begin, int64_t end) {
        Room<I> room(room_for, 1);
        for (int64_t row = begin; row < end; ++row) order(row, room, int64_t(1));
    });
}

template <class At, class T>
static void order_row(int64_t terms, bool descending, const T* x, int64_t count, int64_t* index, Room<Item<Key<T>, At>>& room,
                      int64_t pieces) {
    for_pieces(pieces, [&](int64_t p) {
        for (int64_t i = terms * p / pieces; i < terms * (p + 1) / pieces; ++i)
            room.items[i] = {order_key(x[i], descending), At(i)};
    });
    const auto* sorted = radix_sort(terms, room.items, room.other, pieces, room.counts);
    for_pieces(pieces, [&](int64_t p) {
        for (int64_t i = count * p / pieces; i < count * (p + 1) / pieces; ++i) index[i] = int64_t(sorted[i].at);
    });
}

template <class At, class T>
static void sort_rows(int64_t rows, int64_t terms, bool descending, const T* x, int64_t* index) {
    for_sorted_rows<Item<Key<T>, At>>(rows, terms, terms, [&](int64_t row, auto& room, int64_t pieces) {
        order_row<At>(terms, descending, x + row * terms, terms, index + row * terms, room, pieces);
    });
}

template <class T>
static void argsort(int64_t rows, int64_t terms, bool descending, const T* x, int64_t* index) {
    if (terms <= int64_t(UINT32_MAX)) return sort_rows<uint32_t>(rows, terms, descending, x, index);
    sort_rows<int64_t>(rows, terms, descending, x, index);
}

// Puts the first k of x[begin .. end) in order into `items`, which have room for `most`; returns how many there are. What
// comes before the k-th so far joins them; before there is no more room, the first k of them are chosen. What joins stands behind
// all that is there already, so equal ones stay in their order.
template <class At, class T>
static int64_t first_of(int64_t begin, int64_t end, int64_t k, int64_t most, bool largest, const T* x, Item<Key<T>, At>* items,
                        Item<Key<T>, At>* other, int64_t* counts) {
    int64_t n = smaller(most - LOOKED_AT, end - begin), i = begin + n;
    for (int64_t j = 0; j < n; ++j) items[j] = {order_key(x[begin + j], largest), At(begin + j)};
    const auto settle = [&] {
        const auto* sorted = radix_sort(n, items, other, 1, counts);
        n = smaller(n, k);
        if (sorted != items) std::memcpy(items, sorted, size_t(n) * sizeof *items);
        return n < k ? ~Key<T>(0) : items[n - 1].key;
    };
    Key<T> bound = settle();
    while (i < end) {
        const int64_t count = smaller<int64_t>(LOOKED_AT, end - i);
        Key<T> any = count < LOOKED_AT;  // as wide as the keys, so that they are compared as vectors
        if (!any)
            for (int j = 0; j < LOOKED_AT; ++j) any |= Key<T>(order_key(x[i + j], largest) < bound);
        if (any && n + LOOKED_AT > most) bound = settle();
        for (int64_t j = i; any && j < i + count; ++j) {  // each is written, and stays where it comes before the k-th
            const Key<T> key = order_key(x[j], largest);
            items[n] = {key, At(j)};
            n += key < bound;
        }
        i += count;
    }
    settle();
    return n;
}

// The first k of a row: of each piece, and then of those.
template <class At, class T>
static void choose_of_row(int64_t terms, int64_t k, bool largest, const T* x, int64_t* index, Room<Item<Key<T>, At>>& room,
                          int64_t pieces) {
    const int64_t most = room_to_choose(k);
    for_pieces(pieces, [&](int64_t p) {
        room.counts[pieces * DIGITS + p] =
            first_of<At>(terms * p / pieces, terms * (p + 1) / pieces, k, most, largest, x, room.items + p * most,
                         room.other + p * most, room.counts + p * DIGITS);
    });
    int64_t n = 0;
    for (int64_t p = 0; p < pieces; ++p) {
        const int64_t own = room.counts[pieces * DIGITS + p];
        if (n != p * most) std::memmove(room.items + n, room.items + p * most, size_t(own) * sizeof *room.items);
        n += own;
    }
    const auto* sorted = pieces == 1 ? room.items : radix_sort(n, room.items, room.other, 1, room.counts);
    for (int64_t i = 0; i < k; ++i) index[i] = int64_t(sorted[i].at);
}

template <class At, class T>
static void choose_rows(int64_t rows, int64_t terms, int64_t k, bool largest, const T* x, int64_t* index) {
    if (k == 0) return;
    const bool whole = k >= terms / MOST_OF_A_ROW || terms <= room_to_choose(k);
    const int64_t room_for = whole ? terms : num_threads() * room_to_choose(k);
    for_sorted_rows<Item<Key<T>, At>>(rows, terms, room_for, [&](int64_t row, auto& room, int64_t pieces) {
        const T* from = x + row * terms;
        if (whole) return order_row<At>(terms, largest, from, k, index + row * k, room, pieces);
        choose_of_row<At>(terms, k, largest, from, index + row * k, room, pieces);
    });
}

template <class T>
static void topk(int64_t rows, int64_t terms, int64_t k, bool largest, const T* x, int64_t* index) {
    if (terms <= int64_t(UINT32_MAX)) return choose_rows<uint32_t>(rows, terms, k, largest, x, index);
    choose_rows<int64_t>(rows, terms, k, largest, x, index);
}

}  // namespace LUCID_ISA
}  // namespace lucid
