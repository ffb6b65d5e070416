#include "program.h"

#include <cstring>

namespace lucid {

namespace {

Memory allocate(size_t bytes) { return {static_cast<unsigned char*>(system_allocate(bytes)), SystemFree{bytes}}; }

}  // namespace

Program::Program() : isa_(*isa_in_use), arena_(nullptr, GiveBack{0}) {}

unsigned char* Program::reserve(size_t bytes) {
    arena_ = {static_cast<unsigned char*>(take_memory(bytes)), GiveBack{bytes}};
    return arena_.get();
}

unsigned char* Program::room(size_t bytes) {
    constexpr size_t CHUNK = 16 * HUGE_PAGE;
    bytes = (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    if (bytes > left_) {
        left_ = bytes > CHUNK ? bytes : CHUNK;  // what is never touched costs nothing
        rooms_.push_back(allocate(left_));
    }
    const Memory& last = rooms_.back();
    unsigned char* const place = last.get() + last.get_deleter().bytes - left_;
    left_ -= bytes;
    return place;
}

void Program::add(const Recorded& call, const std::vector<uintptr_t>& addresses, const std::vector<int64_t>& of_input) {
    Call added{call.run, call.wide, call.block, {}};
    for (size_t i = 0; i < call.touched.size(); ++i) {
        const size_t offset = call.touched[i].offset;
        std::memcpy(added.block.data() + offset, &addresses.at(i), sizeof addresses[i]);
        if (of_input.at(i) >= 0) added.inputs.push_back({offset, of_input[i]});
    }
    calls_.push_back(std::move(added));
}

void Program::run(const void* input, size_t first, size_t end) {
    for (size_t i = first; i < end; ++i) {
        Call& call = calls_[i];
        for (const FromInput& from : call.inputs) {
            const void* const address = static_cast<const char*>(input) + from.behind;
            std::memcpy(call.block.data() + from.offset, &address, sizeof address);
        }
        call.run(isa_, call.wide, call.block.data());
    }
}

}  // namespace lucid
