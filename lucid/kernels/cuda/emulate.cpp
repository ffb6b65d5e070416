// The emulator of emulate.h: fibers by ucontext (their first start) and setjmp (every switch, which saves a system call).
#include "emulate.h"

#include <csetjmp>
#include <map>
#include <memory>
#include <vector>

#include <ucontext.h>

#define EXPORTED extern "C" __attribute__((visibility("default")))

Index3 threadIdx, blockIdx, blockDim, gridDim;

namespace lucid {
namespace emulator {
namespace {

constexpr std::size_t STACK_BYTES = 256 * 1024;

enum class State { running, waiting, finished };

struct Fiber {
    std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
    jmp_buf place;
    Index3 thread;
    State state = State::finished;
    bool started = false;
};

std::vector<std::unique_ptr<Fiber>> fibers;
Fiber* current = nullptr;
jmp_buf scheduler;
const Kernel* kernel = nullptr;
void** kernel_arguments = nullptr;

void switch_back(State state) {
    current->state = state;
    if (_setjmp(current->place) == 0) _longjmp(scheduler, 1);
    threadIdx = current->thread;
}

void body() {
    for (;;) {  // a fiber serves one thread after the other
        kernel->run(kernel_arguments);
        switch_back(State::finished);
    }
}

void resume(Fiber* fiber) {
    current = fiber;
    fiber->state = State::running;
    threadIdx = fiber->thread;
    if (_setjmp(scheduler) != 0) return;
    if (fiber->started) _longjmp(fiber->place, 1);
    fiber->started = true;
    static ucontext_t context, unused;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber->stack.get();
    context.uc_stack.ss_size = STACK_BYTES;
    context.uc_link = nullptr;
    makecontext(&context, body, 0);
    swapcontext(&unused, &context);
}

// False if only some of the threads came to a barrier.
bool run_block(bool descending) {
    const std::size_t threads = std::size_t(blockDim.x) * blockDim.y * blockDim.z;
    while (fibers.size() < threads) fibers.push_back(std::make_unique<Fiber>());
    for (std::size_t t = 0; t < threads; ++t)
        fibers[t]->thread = {unsigned(t % blockDim.x), unsigned(t / blockDim.x % blockDim.y),
                             unsigned(t / blockDim.x / blockDim.y)};
    for (;;) {
        std::size_t waiting = 0;
        for (std::size_t t = 0; t < threads; ++t) {
            Fiber* fiber = fibers[descending ? threads - 1 - t : t].get();
            resume(fiber);
            waiting += fiber->state == State::waiting;
        }
        if (waiting == 0) return true;
        if (waiting != threads) {
            fibers.clear();  // half-run threads are dropped
            return false;
        }
    }
}

std::map<std::string, const Kernel*>& kernels() {
    static std::map<std::string, const Kernel*> all;
    return all;
}

}  // namespace

void barrier() { switch_back(State::waiting); }

void add(const std::string& name, const Kernel* k) { kernels()[name] = k; }

}  // namespace emulator
}  // namespace lucid

// What a kernel ("float reduce") takes, or null if there is none of that name.
EXPORTED const char* lucid_emulated_signature(const char* name) {
    const auto found = lucid::emulator::kernels().find(name);
    return found == lucid::emulator::kernels().end() ? nullptr : found->second->signature.c_str();
}

// Runs a kernel; 1 if its threads parted at a barrier. Not for two threads at once.
EXPORTED int lucid_emulated_run(const char* name, const unsigned* grid, const unsigned* block, void** arguments) {
    using namespace lucid::emulator;
    static unsigned order = 0;
    kernel = kernels().at(name);
    kernel_arguments = arguments;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    const std::size_t blocks = std::size_t(grid[0]) * grid[1] * grid[2];
    const bool descending = ++order % 2;
    for (std::size_t i = 0; i < blocks; ++i) {
        const std::size_t b = descending ? blocks - 1 - i : i;
        blockIdx = {unsigned(b % grid[0]), unsigned(b / grid[0] % grid[1]), unsigned(b / grid[0] / grid[1])};
        if (!run_block((order / 2 + i) % 2)) return 1;
    }
    return 0;
}
