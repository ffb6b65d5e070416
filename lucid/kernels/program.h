// A program: recorded calls over memory of its own, run without the interpreter. Which calls there are, and where a value
// lies, is decided in lucid/backends/_native_plan.py.
#pragma once

#include <memory>
#include <vector>

#include "call.h"
#include "memory.h"

namespace lucid {

struct SystemFree {
    size_t bytes;
    void operator()(unsigned char* memory) const { system_free(memory, bytes); }
};
using Memory = std::unique_ptr<unsigned char, SystemFree>;
struct GiveBack {
    size_t bytes;
    void operator()(unsigned char* memory) const { give_memory(memory, bytes); }
};

class Program {
  public:
    // For the instruction set in use now, in whose order packed weights lie.
    Program();

    // Memory for values, once; from the store, which has what the recorded run gave back.
    unsigned char* reserve(size_t bytes);
    // Memory for a constant. Constants lie close together, so that small ones share huge pages too.
    unsigned char* room(size_t bytes);
    // Adds `call`, its arrays at `addresses`; what `of_input` says lies so many bytes behind the start of a run's input, else
    // it is negative.
    void add(const Recorded& call, const std::vector<uintptr_t>& addresses, const std::vector<int64_t>& of_input);
    size_t calls() const { return calls_.size(); }
    // Calls `first` to `end` - 1.
    void run(const void* input, size_t first, size_t end);

  private:
    struct FromInput {
        size_t offset;
        int64_t behind;
    };
    struct Call {
        int64_t (*run)(const Isa&, bool wide, const void* block);
        bool wide;
        std::vector<unsigned char> block;
        std::vector<FromInput> inputs;
    };

    const Isa& isa_;
    std::unique_ptr<unsigned char, GiveBack> arena_;
    std::vector<Memory> rooms_;
    size_t left_ = 0;  // bytes in the last of them
    std::vector<Call> calls_;
};

}  // namespace lucid
