#include "memory.h"

#include <pthread.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <list>
#include <mutex>
#include <new>
#include <unordered_map>

namespace lucid {

namespace {

// A quarter more than results alone have taken at their most, and at least so much: the sizes that come back are not those
// that are asked for next.
constexpr size_t SLACK = 4, LEAST = size_t(256) << 20;

size_t rounded(size_t bytes) {
    const size_t unit = bytes >= HUGE_PAGE ? HUGE_PAGE : 4096;
    return (bytes + unit - 1) / unit * unit;
}

class Store {
  public:
    void* take(size_t bytes) {
        const size_t size = rounded(bytes);
        {
            std::lock_guard<std::mutex> lock(mutex_);
            live_ += size;
            if (void* memory = find(size)) return memory;
            most_ = live_ > most_ ? live_ : most_;
            const size_t limit = most_ + most_ / SLACK > LEAST ? most_ + most_ / SLACK : LEAST;
            while (live_ + idle_ > limit && !oldest_first_.empty()) drop_oldest();
        }
        try {
            return system_allocate(size);
        } catch (const std::bad_alloc&) {
            empty();
        }
        try {
            return system_allocate(size);
        } catch (const std::bad_alloc&) {
            std::lock_guard<std::mutex> lock(mutex_);
            live_ -= size;
            throw;
        }
    }

    void give(void* memory, size_t bytes) {
        const size_t size = rounded(bytes);
        std::lock_guard<std::mutex> lock(mutex_);
        live_ -= size;
        idle_ += size;
        oldest_first_.push_back({memory, size});
        by_size_.emplace(size, --oldest_first_.end());
    }

    size_t empty() {
        std::lock_guard<std::mutex> lock(mutex_);
        const size_t bytes = idle_;
        while (!oldest_first_.empty()) drop_oldest();
        return bytes;
    }

    std::mutex& mutex() { return mutex_; }

  private:
    struct Block {
        void* memory;
        size_t size;
    };
    using Blocks = std::list<Block>;

    void* find(size_t size) {
        const auto found = by_size_.find(size);
        if (found == by_size_.end()) return nullptr;
        void* const memory = found->second->memory;
        idle_ -= size;
        oldest_first_.erase(found->second);
        by_size_.erase(found);
        return memory;
    }

    void drop_oldest() {
        const Blocks::iterator oldest = oldest_first_.begin();
        const auto [begin, end] = by_size_.equal_range(oldest->size);
        for (auto i = begin; i != end; ++i)
            if (i->second == oldest) {
                by_size_.erase(i);
                break;
            }
        idle_ -= oldest->size;
        system_free(oldest->memory, oldest->size);
        oldest_first_.pop_front();
    }

    std::mutex mutex_;
    Blocks oldest_first_;
    std::unordered_multimap<size_t, Blocks::iterator> by_size_;
    size_t live_ = 0, idle_ = 0, most_ = 0;
};

// Never destroyed: arrays may outlive everything else at exit.
Store& store() {
    static Store* const made = [] {
        // A fork must not happen while another thread is inside, or the child would find the store locked for ever.
        pthread_atfork([] { store().mutex().lock(); }, [] { store().mutex().unlock(); }, [] { store().mutex().unlock(); });
        return new Store;
    }();
    return *made;
}

}  // namespace

void* system_allocate(size_t bytes) {
    const size_t size = rounded(bytes ? bytes : 1);
    if (size < HUGE_PAGE) {
        if (void* const memory = std::aligned_alloc(CACHE_LINE, size)) return memory;
        throw std::bad_alloc();
    }
    // A mapping of its own, cut to begin at a huge page; so that it goes back to the system whole.
    char* const wide = static_cast<char*>(
        mmap(nullptr, size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (wide == MAP_FAILED) throw std::bad_alloc();
    const size_t before = (HUGE_PAGE - reinterpret_cast<uintptr_t>(wide) % HUGE_PAGE) % HUGE_PAGE;
    if (before) munmap(wide, before);
    munmap(wide + before + size, HUGE_PAGE - before);
    madvise(wide + before, size, MADV_HUGEPAGE);
    return wide + before;
}

void system_free(void* memory, size_t bytes) {
    const size_t size = rounded(bytes ? bytes : 1);
    if (size < HUGE_PAGE)
        std::free(memory);
    else
        munmap(memory, size);
}

void* take_memory(size_t bytes) { return store().take(bytes); }

void give_memory(void* memory, size_t bytes) { store().give(memory, bytes); }

size_t empty_store() { return store().empty(); }

}  // namespace lucid
