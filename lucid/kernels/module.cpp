// The extension module _lucid_native: each function takes dense arrays and sizes, picks the table of the instruction set
// in use by dtype, and runs with the GIL released. Everything about layouts and results is decided in
// lucid/backends/native.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <new>
#include <string>
#include <vector>

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

const Isa* g_isa = nullptr;

std::vector<std::string> isa_names() {
    std::vector<std::string> names;
    for (auto list = supported_isas(); *list; ++list) names.push_back((*list)->name);
    return names;
}

void set_isa(const std::string& name) {
    std::string known;
    for (auto list = supported_isas(); *list; ++list) {
        if (name == (*list)->name) {
            g_isa = *list;
            return;
        }
        known += std::string(known.empty() ? "" : ", ") + (*list)->name;
    }
    throw nb::value_error(("isa: got '" + name + "'; this processor can run " + known).c_str());
}

// Calls f(zero) with a float or a double that tells the dtype.
template <class F>
void by_dtype(const nb::dlpack::dtype& dtype, const F& f) {
    if (dtype == nb::dtype<float>()) return f(0.0f);
    if (dtype == nb::dtype<double>()) return f(0.0);
    throw nb::type_error("a kernel takes float32 or float64 arrays");
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
        .def("__init__", [](P* self, int64_t elements) { new (self) P(g_isa->of<T>(), elements); })
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

// Runs STATEMENT with T the dtype of ARRAY and `kernels` its table, the GIL released.
#define LUCID_RUN(ARRAY, STATEMENT)                       \
    by_dtype((ARRAY).dtype(), [&](auto zero) {            \
        using T = decltype(zero);                         \
        const Kernels<T>& kernels = g_isa->of<T>();       \
        nb::gil_scoped_release release;                   \
        STATEMENT;                                        \
    })

NB_MODULE(_lucid_native, m) {
    using namespace lucid;
    g_isa = supported_isas()[0];

    m.def("isa_names", &isa_names, "Instruction sets that this processor can run, best first.");
    m.def("isa", [] { return std::string(g_isa->name); });
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

    // What the functions of each element are called here, by name.
    nb::dict unary, binary;
#define LUCID_NAME(name, wide) unary[#name] = int(Unary::name);
    LUCID_UNARY(LUCID_NAME)
#undef LUCID_NAME
#define LUCID_NAME(name, wide) binary[#name] = int(Binary::name);
    LUCID_BINARY(LUCID_NAME)
#undef LUCID_NAME
    m.attr("UNARY") = unary;
    m.attr("BINARY") = binary;
    m.def("unary", [](int op, In x, Out y) {
        LUCID_RUN(x, kernels.unary(Unary(op), int64_t(x.size()), in<T>(x), out<T>(y)));
    });
    m.def("binary", [](int op, In a, In b, Out y) {
        LUCID_RUN(a, kernels.binary(Binary(op), int64_t(a.size()), in<T>(a), in<T>(b), out<T>(y)));
    });
    m.def("power", [](In x, double exponent, Out y) {
        LUCID_RUN(x, kernels.power(int64_t(x.size()), in<T>(x), exponent, out<T>(y)));
    });
    m.def("swap_axes", [](int64_t n, int64_t rows, int64_t columns, In x, Out y) {
        LUCID_RUN(x, kernels.swap_axes(n, rows, columns, in<T>(x), out<T>(y)));
    });
    m.def("reduce", [](int op, int64_t outer, int64_t terms, int64_t inner, In x, Out y) {
        LUCID_RUN(x, kernels.reduce(Reduce(op), outer, terms, inner, in<T>(x), out<T>(y)));
    });
    m.def("matmul", [](int64_t batch, int64_t rows, int64_t columns, int64_t k, In a, int64_t a_stride, In b,
                       int64_t b_stride, nb::handle bias, Out y) {
        const Optional c(bias);
        LUCID_RUN(a, Epilogue<T> e; e.bias = c.get<T>();
                  kernels.matmul(batch, rows, columns, k, in<T>(a), a_stride, in<T>(b), b_stride, e, out<T>(y)));
    }, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg());
    m.def("conv", [](const Sizes& sizes, In x, In weight, nb::handle bias, nb::handle residual, Out y) {
        const Conv s = conv_of(sizes);
        const Optional b(bias), r(residual);
        LUCID_RUN(x, Epilogue<T> e; e.bias = b.get<T>(); e.residual = r.get<T>();
                  kernels.conv(s, in<T>(x), in<T>(weight), false, e, out<T>(y)));
    }, nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg().none(), nb::arg());
    m.def("conv_input_grad", [](const Sizes& sizes, In dy, In weight, nb::handle there, Out dx) {
        const Conv s = conv_of(sizes);
        const Optional onto(there);
        LUCID_RUN(dy, kernels.conv_input_grad(s, in<T>(dy), in<T>(weight), onto.get<T>(), out<T>(dx)));
    }, nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg());
    m.def("conv_weight_grad", [](const Sizes& sizes, In dy, In x, Out dweight) {
        const Conv s = conv_of(sizes);
        LUCID_RUN(dy, kernels.conv_weight_grad(s, in<T>(dy), in<T>(x), out<T>(dweight)));
    });

    m.def("batch_norm_stats", [](int64_t rows, int64_t channels, In x, Out mean, Out var) {
        LUCID_RUN(x, kernels.batch_norm_stats(rows, channels, in<T>(x), out<double>(mean), out<double>(var)));
    });
    m.def("batch_norm_apply", [](int64_t rows, int64_t channels, In x, nb::handle gamma, nb::handle beta, In mean,
                                 In var, double eps, nb::handle residual, bool relu, Out y) {
        const Optional g(gamma), b(beta), r(residual);
        LUCID_RUN(x, kernels.batch_norm_apply(rows, channels, in<T>(x), g.get<T>(), b.get<T>(), in<double>(mean),
                                              in<double>(var), eps, r.get<T>(), relu, out<T>(y)));
    }, nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg().none(), nb::arg(), nb::arg(), nb::arg(),
       nb::arg().none(), nb::arg(), nb::arg());
    // `packed`: the weight is what pack_weight made
    m.def("conv_norm", [](const Sizes& sizes, In x, In weight, bool packed, nb::handle bias, nb::handle gamma,
                          nb::handle beta, In mean, In var, double eps, nb::handle residual, bool relu, Out y) {
        const Conv s = conv_of(sizes);
        const Optional c(bias), g(gamma), b(beta), r(residual);
        LUCID_RUN(x, std::vector<T> coefficients(size_t(3 * s.o)); T* const m = coefficients.data();
                  kernels.batch_norm_coefficients(s.o, g.get<T>(), b.get<T>(), in<double>(mean), in<double>(var), eps, m,
                                                  m + s.o, m + 2 * s.o);
                  Epilogue<T> e; e.bias = c.get<T>(); e.mean = m; e.scale = m + s.o; e.shift = m + 2 * s.o;
                  e.residual = r.get<T>(); e.relu = relu;
                  kernels.conv(s, in<T>(x), in<T>(weight), packed, e, out<T>(y)));
    }, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg().none(), nb::arg().none(), nb::arg(),
       nb::arg(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg());
    m.def("packed_weight_size", [](const Sizes& sizes, In weight) {
        int64_t size = 0;
        LUCID_RUN(weight, (void)T(); size = kernels.packed_weight_size(conv_of(sizes)));
        return size;
    });
    m.def("pack_weight", [](const Sizes& sizes, In weight, Out panels) {
        LUCID_RUN(weight, kernels.pack_weight(conv_of(sizes), in<T>(weight), out<T>(panels)));
    });
    m.def("fingerprint", [](In array) {
        uint64_t words[8];
        {
            nb::gil_scoped_release release;
            g_isa->fingerprint(array.data(), int64_t(array.nbytes()), words);
        }
        return nb::bytes(reinterpret_cast<const char*>(words), sizeof words);
    });
    m.def("batch_norm_grad", [](int64_t rows, int64_t channels, In dy, In x, nb::handle y, nb::handle gamma, In mean,
                                In var, double eps, bool training, nb::handle there, Out dx, nb::object arrived, Out dgamma,
                                Out dbeta) {
        const Optional g(gamma), after(y), onto(there);
        Out also;
        if (!arrived.is_none()) also = nb::cast<Out>(arrived);
        LUCID_RUN(x, kernels.batch_norm_grad(rows, channels, in<T>(dy), in<T>(x), after.get<T>(), g.get<T>(),
                                             in<double>(mean), in<double>(var), eps, training, onto.get<T>(), out<T>(dx),
                                             also.is_valid() ? out<T>(also) : nullptr, out<T>(dgamma), out<T>(dbeta)));
    }, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg().none(), nb::arg(), nb::arg(), nb::arg(),
       nb::arg(), nb::arg().none(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg());

    m.def("max_pool", [](const Sizes& sizes, In x, Out y, Out index) {
        const Pool s = pool_of(sizes, false, false);
        if (index.dtype() == nb::dtype<int64_t>())
            LUCID_RUN(x, kernels.max_pool_wide(s, in<T>(x), out<T>(y), out<int64_t>(index)));
        else
            LUCID_RUN(x, kernels.max_pool(s, in<T>(x), out<T>(y), out<int32_t>(index)));
    });
    m.def("max_pool_grad", [](const Sizes& sizes, In dy, In index, Out dx) {
        const Pool s = pool_of(sizes, false, false);
        if (index.dtype() == nb::dtype<int64_t>())
            LUCID_RUN(dy, kernels.max_pool_grad_wide(s, in<T>(dy), in<int64_t>(index), out<T>(dx)));
        else
            LUCID_RUN(dy, kernels.max_pool_grad(s, in<T>(dy), in<int32_t>(index), out<T>(dx)));
    });
    m.def("avg_pool", [](const Sizes& sizes, bool include_pad, bool adaptive, In x, Out y) {
        const Pool s = pool_of(sizes, include_pad, adaptive);
        LUCID_RUN(x, kernels.avg_pool(s, in<T>(x), out<T>(y)));
    });
    m.def("avg_pool_grad", [](const Sizes& sizes, bool include_pad, bool adaptive, In dy, Out dx) {
        const Pool s = pool_of(sizes, include_pad, adaptive);
        LUCID_RUN(dy, kernels.avg_pool_grad(s, in<T>(dy), out<T>(dx)));
    });

    m.def("log_softmax", [](int64_t rows, int64_t classes, In x, Out y) {
        LUCID_RUN(x, kernels.log_softmax(rows, classes, in<T>(x), out<T>(y)));
    });
    m.def("log_softmax_grad", [](int64_t rows, int64_t classes, In dy, In y, Out dx) {
        LUCID_RUN(dy, kernels.log_softmax_grad(rows, classes, in<T>(dy), in<T>(y), out<T>(dx)));
    });
    m.def("nll_loss", [](int64_t rows, int64_t classes, In logp, In target, nb::handle weight, int64_t ignore,
                         int reduction, Out loss, Out weight_sum) {
        const Optional w(weight);
        LUCID_RUN(logp, kernels.nll_loss(rows, classes, in<T>(logp), in<int64_t>(target), w.get<T>(), ignore, reduction,
                                         out<T>(loss), out<double>(weight_sum)));
    }, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg(), nb::arg(), nb::arg());
    m.def("nll_loss_grad", [](int64_t rows, int64_t classes, In dloss, In target, nb::handle weight, int64_t ignore,
                              int reduction, double weight_sum, Out dlogp) {
        const Optional w(weight);
        LUCID_RUN(dloss, kernels.nll_loss_grad(rows, classes, in<T>(dloss), in<int64_t>(target), w.get<T>(), ignore,
                                               reduction, weight_sum, out<T>(dlogp)));
    }, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg(), nb::arg(), nb::arg());

    m.def("sgd", [](Out param, In grad, nb::object velocity, bool first, double lr, double momentum, double dampening,
                    double weight_decay, bool nesterov, bool maximize) {
        const Sgd s{lr, momentum, dampening, weight_decay, nesterov, maximize, first};
        Out v;
        if (!velocity.is_none()) v = nb::cast<Out>(velocity);
        LUCID_RUN(param, kernels.sgd(s, int64_t(param.size()), out<T>(param), in<T>(grad),
                                     v.is_valid() ? out<T>(v) : nullptr));
    }, nb::arg(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg());
    m.def("index_add", [](In index, In values, Out y) {
        LUCID_RUN(values, kernels.index_add(int64_t(values.size()), in<int64_t>(index), in<T>(values), out<T>(y)));
    });

    m.attr("SEGMENT") = SEGMENT;
    define_plan<float>(m, "PlanFloat32");
    define_plan<double>(m, "PlanFloat64");

    m.def("philox", [](uint64_t seed, uint64_t stream, uint64_t block, Out words) {
        nb::gil_scoped_release release;
        philox_words(seed, stream, block, int64_t(words.size()), out<uint32_t>(words));
    });
    m.def("uniform", [](uint64_t seed, uint64_t stream, uint64_t block, double low, double high, Out y) {
        LUCID_RUN(y, kernels.uniform(seed, stream, block, int64_t(y.size()), low, high, out<T>(y)));
    });
    m.def("normal", [](uint64_t seed, uint64_t stream, uint64_t block, double mean, double std, Out y) {
        LUCID_RUN(y, kernels.normal(seed, stream, block, int64_t(y.size()), mean, std, out<T>(y)));
    });
}
