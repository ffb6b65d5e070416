// The extension module _lucid_native: the kernels of the instruction set in use (call.h), memory, threads. Everything about
// layouts and results is decided in lucid/backends/native.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <new>
#include <string>
#include <utility>
#include <vector>

#include "call.h"
#include "kernels.h"
#include "memory.h"
#include "order.h"
#include "program.h"
#include "threads.h"

namespace nb = nanobind;

namespace lucid {
namespace {

using In = nb::ndarray<nb::ro, nb::device::cpu>;

std::vector<std::string> isa_names() {
    std::vector<std::string> names;
    for (auto list = supported_isas(); *list; ++list) names.push_back((*list)->name);
    return names;
}

void set_isa(const std::string& name) {
    std::string known;
    for (auto list = supported_isas(); *list; ++list) {
        if (name == (*list)->name) {
            isa_in_use = *list;
            return;
        }
        known += std::string(known.empty() ? "" : ", ") + (*list)->name;
    }
    throw nb::value_error(("isa: got '" + name + "'; this processor can run " + known).c_str());
}

// Memory of a program as an array, which keeps the program alive.
nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>> view_of(nb::handle program, unsigned char* memory, size_t bytes) {
    const size_t shape[1] = {bytes};
    return nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>>(memory, 1, shape, program);
}

void define_program(nb::module_& m) {
    nb::class_<Recorded>(m, "Recorded")
        .def_ro("kernel", &Recorded::kernel)
        .def("release", &Recorded::release, "Keep no array alive any more.")
        .def_prop_ro("touched", [](const Recorded& self) {
            nb::list found;
            for (const Touched& t : self.touched)
                found.append(nb::make_tuple(t.keyword, t.address, t.bytes, t.written, t.optional));
            return found;
        }, "What each array was: keyword, address, bytes, whether it is written, whether it may be left out.");
    m.def("start_recording", [] { delete std::exchange(recording, new std::vector<Recorded>()); },
          "From now on this thread writes down its calls of kernels.");
    m.def("recorded", [] {
        nb::list calls;
        if (!recording) return calls;
        for (Recorded& call : *recording) calls.append(nb::cast(std::move(call)));
        recording->clear();
        return calls;
    }, "The calls since the last time.");
    m.def("stop_recording", [] { delete std::exchange(recording, nullptr); });
    nb::class_<Program>(m, "Program")
        .def(nb::init<>())
        .def("reserve", [](nb::handle self, size_t bytes) {
            return view_of(self, nb::cast<Program&>(self).reserve(bytes), bytes);
        })
        .def("room", [](nb::handle self, size_t bytes) {
            return view_of(self, nb::cast<Program&>(self).room(bytes), bytes);
        })
        .def("add", &Program::add)
        .def_prop_ro("calls", &Program::calls)
        .def("run", [](Program& self, In input, size_t first, size_t end) { self.run(input.data(), first, end); },
             nb::arg("input"), nb::arg("first"), nb::arg("end"), nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace
}  // namespace lucid

NB_MODULE(_lucid_native, m) {
    using namespace lucid;
    m.def("isa_names", &isa_names, "Instruction sets that this processor can run, best first.");
    m.def("isa", [] { return std::string(isa_in_use->name); });
    m.def("set_isa", &set_isa);
    m.def("num_threads", &num_threads);
    m.def("set_num_threads", [](int n) {
        if (n < 1) throw nb::value_error("threads: may be at least 1");
        nb::gil_scoped_release release;
        set_num_threads(n);
    });

    // A new array of memory from the store, into which it goes back when nobody has the array any more.
    m.def("empty", [](const std::vector<size_t>& shape, bool wide) {
        size_t bytes = wide ? sizeof(double) : sizeof(float);
        bool nothing = false;
        for (const size_t n : shape) nothing = nothing || n == 0;
        for (const size_t n : shape)
            if (!nothing && __builtin_mul_overflow(bytes, n, &bytes)) throw std::bad_alloc();
        if (nothing) bytes = 0;
        struct Owner {
            void* memory;
            size_t bytes;
        };
        auto* owner = new Owner{nullptr, bytes};
        nb::capsule capsule(owner, [](void* p) noexcept {
            auto* const o = static_cast<Owner*>(p);
            if (o->memory) give_memory(o->memory, o->bytes);
            delete o;
        });
        owner->memory = take_memory(bytes);
        return nb::ndarray<nb::numpy>(owner->memory, shape.size(), shape.data(), capsule, nullptr,
                                      wide ? nb::dtype<double>() : nb::dtype<float>());
    });
    m.def("empty_store", &empty_store, nb::call_guard<nb::gil_scoped_release>());

    m.def("fingerprint", [](In array) {
        uint64_t words[8];
        {
            nb::gil_scoped_release release;
            isa_in_use->fingerprint(array.data(), int64_t(array.nbytes()), words);
        }
        return nb::bytes(reinterpret_cast<const char*>(words), sizeof words);
    });
    if (!bind_kernels(m.ptr())) nb::raise_python_error();

    m.attr("SEGMENT") = SEGMENT;
    define_program(m);
}
