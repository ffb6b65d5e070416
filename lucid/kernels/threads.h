// One pool of worker threads for all kernels. `parallel_for` hands out task numbers from a counter; a result never
// depends on who runs which task. Callers from several Python threads are safe: one of them gets the pool, the others run their tasks themselves.
#pragma once

#include <cstdint>

#include "tuning.h"

namespace lucid {

using TaskFn = void (*)(void* context, int64_t task);

void parallel_for(int64_t tasks, TaskFn fn, void* context);
int num_threads();  // as many as asked for; fewer work where the system does not let more be made
void set_num_threads(int n);

// `body(task)` for every task in [0, tasks).
template <class Body>
inline void parallel(int64_t tasks, const Body& body) {
    parallel_for(
        tasks, [](void* context, int64_t task) { (*static_cast<const Body*>(context))(task); },
        const_cast<Body*>(&body));
}

// `body(begin, end)` over [0, n) in pieces of at least `grain`.
template <class Body>
inline void parallel_range(int64_t n, int64_t grain, const Body& body) {
    int64_t pieces = AnyMachine::TASKS_A_THREAD * num_threads();
    if (pieces > n / grain) pieces = n / grain;
    if (num_threads() == 1 || pieces <= 1) {
        if (n > 0) body(int64_t(0), n);
        return;
    }
    parallel(pieces, [&](int64_t i) { body(n * i / pieces, n * (i + 1) / pieces); });
}

}  // namespace lucid
