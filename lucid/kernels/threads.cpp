#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace lucid {
namespace {

// A worker that finds no work spins this long before it sleeps: the next kernel of a network follows within
// microseconds, and waking a sleeping thread costs more than most kernels of a small layer.
constexpr auto SPIN = std::chrono::microseconds(AnyMachine::SPIN_MICROSECONDS);

void relax() {
#if defined(__x86_64__)
    _mm_pause();
#endif
}

struct Job {
    TaskFn fn;
    void* context;
    int64_t tasks;
    std::atomic<int64_t> next{0};
};

// A sleeping thread may be woken on the processor of the thread that wakes it, although another is idle; the two then take
// turns for milliseconds, until the scheduler balances. So it is kept off that processor until it runs.
class Aside {
  public:
    void step(pthread_t thread, int processor) {
        if (stepped_ || processor < 0 || pthread_getaffinity_np(thread, sizeof usual_, &usual_) != 0) return;
        cpu_set_t others = usual_;
        CPU_CLR(processor, &others);
        stepped_ = CPU_COUNT(&others) > 0 && CPU_COUNT(&others) < CPU_COUNT(&usual_) &&
                   pthread_setaffinity_np(thread, sizeof others, &others) == 0;
    }

    void back() {
        if (stepped_) pthread_setaffinity_np(pthread_self(), sizeof usual_, &usual_);
        stepped_ = false;
    }

  private:
    cpu_set_t usual_;
    bool stepped_ = false;
};

struct Worker {
    std::thread thread;
    Aside aside;
    bool asleep = false;
};

// Address space that stacks of threads may not take: what the threads are to work on needs some, too.
class Room {
  public:
    Room() : place_(mmap(nullptr, BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {}
    ~Room() {
        if (found()) munmap(place_, BYTES);
    }
    Room(const Room&) = delete;
    bool found() const { return place_ != MAP_FAILED; }

  private:
    static constexpr size_t BYTES = size_t(64) << 20;
    void* const place_;
};

class Pool {
  public:
    // Fewer workers where the system does not let more threads be made (memory, a limit of processes).
    explicit Pool(int threads) {
        const Room room;
        if (!room.found()) return;
        try {
            workers_.reserve(size_t(threads));  // so that nothing can fail once a thread runs
            for (int i = 1; i < threads; ++i) {
                auto worker = std::make_unique<Worker>();
                worker->thread = std::thread([this, self = worker.get()] { work(*self); });
                workers_.push_back(std::move(worker));
            }
        } catch (const std::exception&) {
        }
    }

    ~Pool() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            stop_ = true;
            generation_.fetch_add(1);
        }
        wake_.notify_all();
        for (auto& worker : workers_) worker->thread.join();
    }

    // False if another thread is using the pool.
    bool run(Job& job) {
        std::unique_lock<std::mutex> owner(owner_, std::try_to_lock);
        if (!owner.owns_lock()) return false;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            for (auto& worker : workers_)
                if (worker->asleep) worker->aside.step(worker->thread.native_handle(), sched_getcpu());
            busy_.store(int(workers_.size()));
            job_ = &job;
            generation_.fetch_add(1);
        }
        wake_.notify_all();
        drain(job);
        // Workers are about to finish, unless their processor was given to somebody else: then this one may help.
        for (int spins = 0; busy_.load(std::memory_order_acquire) != 0; ++spins) {
            if (spins < 10000)
                relax();
            else
                sched_yield();
        }
        return true;
    }

  private:
    static void drain(Job& job) {
        for (int64_t i; (i = job.next.fetch_add(1)) < job.tasks;) job.fn(job.context, i);
    }

    void work(Worker& self) {
        uint64_t seen = 0;
        for (;;) {
            const auto start = std::chrono::steady_clock::now();
            int spins = 0;
            while (generation_.load(std::memory_order_acquire) == seen) {
                relax();
                if (++spins % 64 == 0 && std::chrono::steady_clock::now() - start > SPIN) break;
            }
            Job* job;
            {
                std::unique_lock<std::mutex> lock(mutex_);
                self.asleep = true;
                wake_.wait(lock, [&] { return generation_.load() != seen; });
                self.asleep = false;
                self.aside.back();
                seen = generation_.load();
                if (stop_) return;
                job = job_;
            }
            drain(*job);
            busy_.fetch_sub(1, std::memory_order_release);
        }
    }

    std::vector<std::unique_ptr<Worker>> workers_;
    std::mutex owner_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::atomic<uint64_t> generation_{0};
    std::atomic<int> busy_{0};
    Job* job_ = nullptr;
    bool stop_ = false;
};

// Whole processors that the control group (version 2, then 1) lets this process use; 0 where there is no limit.
int cgroup_limit() {
    long long quota = -1, period = 0;
    if (FILE* file = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
        if (std::fscanf(file, "%lld %lld", &quota, &period) != 2) quota = -1;
        std::fclose(file);
    } else {
        FILE* quota_file = std::fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r");
        FILE* period_file = std::fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r");
        if (quota_file && period_file &&
            (std::fscanf(quota_file, "%lld", &quota) != 1 || std::fscanf(period_file, "%lld", &period) != 1))
            quota = -1;
        if (quota_file) std::fclose(quota_file);
        if (period_file) std::fclose(period_file);
    }
    if (quota <= 0 || period <= 0) return 0;
    return int((quota + period - 1) / period);
}

// What the environment asks for is read in lucid/backends/_settings.py.
int default_threads() {
    int n = 0;
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
    if (n <= 0) n = int(std::thread::hardware_concurrency());
    if (n <= 0) n = 1;
    const int limit = cgroup_limit();
    return limit > 0 && limit < n ? limit : n;
}

// The pool in use. It is never destroyed at exit: workers may be asleep in it then.
struct Shared {
    std::mutex mutex;
    std::shared_ptr<Pool> pool;
};
Shared* g_shared = new Shared;
std::atomic<int> g_threads{0};

// A child of fork has no workers: it forgets the pool (whose locks may be held) and makes its own when it needs one.
void forget_pool_in_child() { g_shared = new Shared; }

std::shared_ptr<Pool> pool() {
    static const int registered = pthread_atfork(nullptr, nullptr, forget_pool_in_child);
    (void)registered;
    std::lock_guard<std::mutex> lock(g_shared->mutex);
    if (!g_shared->pool) {
        try {
            g_shared->pool = std::make_shared<Pool>(num_threads());
        } catch (const std::bad_alloc&) {  // then the caller works alone
        }
    }
    return g_shared->pool;
}

thread_local bool t_inside = false;  // a task that starts a parallel loop runs it alone

}  // namespace

int num_threads() {
    int n = g_threads.load(std::memory_order_relaxed);
    if (n == 0) {
        n = default_threads();
        g_threads.store(n);
    }
    return n;
}

void set_num_threads(int n) {
    std::lock_guard<std::mutex> lock(g_shared->mutex);
    if (n == num_threads()) return;
    g_threads.store(n);
    g_shared->pool.reset();  // a loop that is running keeps the old pool until it ends
}

void parallel_for(int64_t tasks, TaskFn fn, void* context) {
    if (tasks <= 0) return;
    if (tasks > 1 && num_threads() > 1 && !t_inside) {
        t_inside = true;
        Job job{fn, context, tasks};
        const std::shared_ptr<Pool> workers = pool();
        const bool done = workers && workers->run(job);
        t_inside = false;
        if (done) return;
    }
    for (int64_t i = 0; i < tasks; ++i) fn(context, i);
}

}  // namespace lucid
