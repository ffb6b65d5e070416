#include "memory.h"

#include <pthread.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <map>
#include <mutex>
#include <new>

namespace lucid {

namespace {

// A quarter more than results alone have taken at their most, and at least so much.
constexpr size_t SLACK = 4, LEAST = size_t(256) << 20;

size_t rounded(size_t bytes) {
    if (bytes > size_t(PTRDIFF_MAX)) throw std::bad_alloc();  // no such array; and the sum below would overflow
    const size_t unit = bytes >= HUGE_PAGE ? HUGE_PAGE : PAGE;
    return (bytes + unit - 1) / unit * unit;
}

// Address space for `bytes`, on a huge page; pages come when they are touched.
char* map(size_t bytes) {
    char* const wide = static_cast<char*>(mmap(nullptr, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE,
                                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (wide == MAP_FAILED) throw std::bad_alloc();
    const size_t before = (HUGE_PAGE - reinterpret_cast<uintptr_t>(wide) % HUGE_PAGE) % HUGE_PAGE;
    if (before) munmap(wide, before);
    munmap(wide + before + bytes, HUGE_PAGE - before);
    if (bytes >= HUGE_PAGE) madvise(wide + before, bytes, MADV_HUGEPAGE);
    return wide + before;
}

// Blocks out of a wide stretch of address space, the lowest that is large enough; neighbours that are free are one block. A
// training step that asks for the same sizes in the same order gets the same places, whose pages are there already.
class Heap {
  public:
    explicit Heap(size_t stretch) : stretch_(stretch) {}

    // `size` bytes, of which `*kept` had pages already.
    char* take(size_t size, size_t* kept) {
        auto block = find(size);
        if (block == free_.end()) {
            reserve(size);
            block = find(size);
        }
        char* const memory = block->first;
        const Block left{block->second.size - size, block->second.pages > size ? block->second.pages - size : 0};
        *kept = block->second.pages - left.pages;
        free_.erase(block);
        if (left.size) free_.emplace(memory + size, left);
        return memory;
    }

    void give(char* memory, size_t size) { add(memory, {size, size}); }

    // Gives the pages of the highest block that has some back to the system; returns how many bytes, 0 if there are none.
    size_t drop() {
        for (auto block = free_.rbegin(); block != free_.rend(); ++block)
            if (const size_t pages = block->second.pages) {
                madvise(block->first, block->second.size, MADV_DONTNEED);
                block->second.pages = 0;
                return pages;
            }
        return 0;
    }

  private:
    struct Block {
        size_t size, pages;  // bytes, and how many of them have pages, at most
    };
    using Blocks = std::map<char*, Block>;

    Blocks::iterator find(size_t size) {
        auto block = free_.begin();
        while (block != free_.end() && block->second.size < size) ++block;
        return block;
    }

    void add(char* memory, Block block) {
        auto next = free_.upper_bound(memory);
        if (next != free_.end() && memory + block.size == next->first) {
            block = {block.size + next->second.size, block.pages + next->second.pages};
            next = free_.erase(next);
        }
        if (next != free_.begin()) {
            const auto before = std::prev(next);
            if (before->first + before->second.size == memory) {
                before->second.size += block.size;
                before->second.pages += block.pages;
                return;
            }
        }
        free_.emplace_hint(next, memory, block);
    }

    // More address space: as much as usual, or what the system grants.
    void reserve(size_t size) {
        for (size_t bytes = stretch_ > size ? stretch_ : size;; bytes = bytes / 2 > size ? bytes / 2 : size) {
            try {
                return add(map(bytes), {bytes, 0});
            } catch (const std::bad_alloc&) {
                if (bytes == size) throw;
            }
        }
    }

    const size_t stretch_;
    Blocks free_;
};

class Store {
  public:
    void* take(size_t bytes) {
        const size_t size = rounded(bytes ? bytes : 1);
        std::lock_guard<std::mutex> lock(mutex_);
        size_t kept = 0;
        char* const memory = heap(size).take(size, &kept);
        live_ += size;
        idle_ -= kept;
        if (kept < size) {
            most_ = live_ > most_ ? live_ : most_;
            const size_t limit = most_ + most_ / SLACK > LEAST ? most_ + most_ / SLACK : LEAST;
            while (live_ + idle_ > limit && drop() > 0) {
            }
        }
        return memory;
    }

    void give(void* memory, size_t bytes) {
        const size_t size = rounded(bytes ? bytes : 1);
        std::lock_guard<std::mutex> lock(mutex_);
        heap(size).give(static_cast<char*>(memory), size);
        live_ -= size;
        idle_ += size;
    }

    size_t empty() {
        std::lock_guard<std::mutex> lock(mutex_);
        size_t bytes = 0;
        while (const size_t dropped = drop()) bytes += dropped;
        return bytes;
    }

    std::mutex& mutex() { return mutex_; }

  private:
    // What is small would keep large blocks from being free.
    Heap& heap(size_t size) { return size >= HUGE_PAGE ? large_ : small_; }

    size_t drop() {
        size_t bytes = large_.drop();
        if (!bytes) bytes = small_.drop();
        idle_ -= bytes;
        return bytes;
    }

    std::mutex mutex_;
    Heap small_{size_t(1) << 32}, large_{size_t(1) << 36};
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
    return map(size);  // a mapping of its own, so that it goes back to the system whole
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
