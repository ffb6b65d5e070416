// The extension module _lucid_native: the kernels of the instruction set in use (call.h), memory, threads. Everything about
// layouts and results is decided in lucid/backends/native.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <new>
#include <string>
#include <vector>

#include "call.h"
#include "kernels.h"
#include "memory.h"
#include "order.h"
#include "plan.h"
#include "threads.h"

namespace nb = nanobind;

namespace lucid {
namespace {

using In = nb::ndarray<nb::ro, nb::device::cpu>;
using Out = nb::ndarray<nb::device::cpu>;

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

template <class T>
const T* in(const In& a) {
    return static_cast<const T*>(a.data());
}
template <class T>
T* out(const Out& a) {
    return static_cast<T*>(a.data());
}

// A Python None stands for an operand that is absent.
struct Optional {
    In array;
    bool present = false;
    explicit Optional(nb::handle object) {
        if (!object.is_none()) {
            array = nb::cast<In>(object);
            present = true;
        }
    }
    template <class T>
    const T* get() const {
        return present ? in<T>(array) : nullptr;
    }
};

using Sizes = std::vector<int64_t>;

Conv conv_of(const Sizes& v) {
    return {v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10], v[11], v[12], v[13], v[14], v[15]};
}
Pool pool_of(const Sizes& v, bool include_pad, bool adaptive) {
    return {v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10], v[11], v[12], v[13], include_pad, adaptive};
}

template <class T>
typename Plan<T>::Norm norm_of(nb::handle mean, nb::handle scale, nb::handle shift) {
    return {Optional(mean).get<T>(), Optional(scale).get<T>(), Optional(shift).get<T>()};
}

// Memory of a plan as an array, which keeps the plan alive.
template <class T>
nb::ndarray<nb::numpy, T, nb::ndim<1>> view_of(nb::handle plan, T* memory, int64_t elements) {
    const size_t shape[1] = {size_t(elements)};
    return nb::ndarray<nb::numpy, T, nb::ndim<1>>(memory, 1, shape, plan);
}

// The caller keeps every array that a plan was given alive.
template <class T>
void define_plan(nb::module_& m, const char* name) {
    using P = Plan<T>;
    nb::class_<P>(m, name)
        .def("__init__", [](P* self, int64_t elements) { new (self) P(isa_in_use->of<T>(), elements); })
        .def("to_channels_last", &P::to_channels_last)
        .def("conv", [](nb::handle plan, const Sizes& sizes, int64_t x, In weight, nb::handle bias, nb::handle mean,
                        nb::handle scale, nb::handle shift, int64_t residual, bool relu, int64_t y) {
            P& self = nb::cast<P&>(plan);
            const Conv s = conv_of(sizes);
            T* const panels = self.conv(s, x, in<T>(weight), Optional(bias).get<T>(), norm_of<T>(mean, scale, shift),
                                        residual, relu, y);
            return view_of(plan, panels, self.packed_size(s));
        }, nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg().none(), nb::arg().none(), nb::arg().none(),
           nb::arg(), nb::arg(), nb::arg())
        .def("linear", [](nb::handle plan, int64_t rows, int64_t columns, int64_t k, int64_t x, In weight, nb::handle bias,
                          int64_t y) {
            P& self = nb::cast<P&>(plan);
            T* const panels = self.linear(rows, columns, k, x, in<T>(weight), Optional(bias).get<T>(), y);
            return view_of(plan, panels, self.packed_size(P::conv_of_linear(rows, columns, k)));
        }, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg())
        .def("norm", [](P& self, int64_t rows, int64_t channels, int64_t x, In mean, In scale, In shift, bool relu, int64_t y) {
            self.norm(rows, channels, x, {in<T>(mean), in<T>(scale), in<T>(shift)}, relu, y);
        })
        .def("max_pool", [](P& self, const Sizes& sizes, int64_t x, int64_t y) {
            self.max_pool(pool_of(sizes, false, false), x, y);
        })
        .def("avg_pool", [](P& self, const Sizes& sizes, bool include_pad, bool adaptive, int64_t x, int64_t y) {
            self.avg_pool(pool_of(sizes, include_pad, adaptive), x, y);
        })
        .def("unary", [](P& self, int op, int64_t n, int64_t x, int64_t y) { self.unary(Unary(op), n, x, y); })
        .def("binary", [](P& self, int op, int64_t n, int64_t a, int64_t b, int64_t y) { self.binary(Binary(op), n, a, b, y); })
        .def("scale_channels", &P::scale_channels)
        .def_prop_ro("steps", &P::steps)
        .def("arena", [](nb::handle plan) {
            const P& self = nb::cast<const P&>(plan);
            return view_of(plan, self.arena(), self.arena_elements());
        })
        .def("run", [](P& self, In x, Out y, int64_t first, int64_t end) { self.run(in<T>(x), out<T>(y), first, end); },
             nb::call_guard<nb::gil_scoped_release>());
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
    define_plan<float>(m, "PlanFloat32");
    define_plan<double>(m, "PlanFloat64");
}
