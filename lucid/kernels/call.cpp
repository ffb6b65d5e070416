#include "call.h"

#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace lucid {

const Isa* isa_in_use = supported_isas()[0];
thread_local std::vector<Recorded>* recording = nullptr;

namespace {

using Text = std::string;

// -- what kernels.def says, as text ---------------------------------------------------------------------------------------

std::vector<Text> split(const Text& text, char at) {
    std::vector<Text> parts(1);
    for (const char c : text) {
        if (c == at)
            parts.emplace_back();
        else if (c != ' ' || !parts.back().empty())
            parts.back() += c;
    }
    return parts;
}

struct Declared {
    Text type, name;
};

Declared declared(const Text& text) {
    const size_t at = text.find_last_of(' ');
    return {text.substr(0, at), text.substr(at + 1)};
}

// "int64_t n, h; bool relu = false;" as one entry a field.
std::vector<Declared> fields_of(const Text& text) {
    std::vector<Declared> fields;
    for (const Text& line : split(text, ';')) {
        if (line.empty()) continue;
        Text type;
        for (const Text& part : split(line, ',')) {
            const Text bare = part.substr(0, part.find(" ="));
            const bool first = type.empty();
            if (first) type = declared(bare).type;
            fields.push_back({type, first ? declared(bare).name : bare});
        }
    }
    return fields;
}

const std::map<Text, Text>& structures() {
    static const std::map<Text, Text> all = {
#define STRUCT(name, ...) {"const " #name "&", #__VA_ARGS__},
#define STRUCT_OF_T(name, ...) {"const " #name "<T>&", #__VA_ARGS__},
#include "kernels.def"
    };
    return all;
}

const std::vector<PyObject*>* values_of(const Text& enumeration) {
    static const std::map<Text, std::vector<PyObject*>> all = [] {
        const std::pair<Text, Text> texts[] = {
#define TEXT(...) #__VA_ARGS__
#define ENUM(name, ...) {#name, TEXT(__VA_ARGS__)},
#include "kernels.def"
        };
        std::map<Text, std::vector<PyObject*>> found;
        for (const auto& [name, values] : texts)
            for (const Text& value : split(values, ','))
                if (!value.empty()) found[name].push_back(PyUnicode_InternFromString(value.c_str()));
        return found;
    }();
    const auto found = all.find(enumeration);
    return found == all.end() ? nullptr : &found->second;
}

// -- bindings -------------------------------------------------------------------------------------------------------------

enum class Kind { integer, natural, real, truth, name, memory, structure };

struct Keyword {
    PyObject* key;                                 // interned
    Text type;
    Kind kind;
    size_t offset;                                 // in the block of arguments
    bool optional = false, written = false;
    char format = 0;                               // of memory: as the buffer protocol names it, 'T' for the table's dtype
    const std::vector<PyObject*>* names = nullptr;  // of an enumeration
    size_t bytes = 0;                              // of a structure
    uint64_t provides = 0;                         // the keywords that are given with it, a bit each
};

struct Binding {
    Text name, parameters;
    std::vector<Keyword> keywords;
    std::vector<unsigned char> initial;            // a block before anything is given
    uint64_t required = 0;                         // a bit a keyword
    int64_t (*run)(const Isa&, bool wide, const void* block) = nullptr;
    PyMethodDef method{};
};

constexpr size_t MOST_KEYWORDS = 40, MOST_BYTES = 512;

size_t size_of(const Text& type) {
    if (type == "bool") return 1;
    return values_of(type) ? sizeof(int) : 8;
}

Keyword keyword(const Text& name, const Text& type, size_t offset, bool optional) {
    Keyword k{PyUnicode_InternFromString(name.c_str()), type, Kind::memory, offset};
    k.optional = optional;
    if (type == "int64_t") k.kind = Kind::integer;
    else if (type == "uint64_t") k.kind = Kind::natural;
    else if (type == "double") k.kind = Kind::real;
    else if (type == "bool") k.kind = Kind::truth;
    else if ((k.names = values_of(type))) k.kind = Kind::name;
    if (k.kind != Kind::memory) return k;
    Text element = type;
    if (element.rfind("Maybe<", 0) == 0) {
        k.optional = true;
        element = element.substr(6, element.size() - 7) + "*";
    }
    k.written = element.rfind("const ", 0) != 0;
    if (!k.written) element = element.substr(6);
    static const std::map<Text, char> formats = {{"T*", 'T'}, {"double*", 'd'}, {"int64_t*", 'l'}, {"int32_t*", 'i'}, {"uint32_t*", 'I'}};
    const auto found = formats.find(element);
    if (found == formats.end()) throw std::logic_error("kernels.def: a parameter of type " + type);
    k.format = found->second;
    return k;
}

// The keywords of a parameter that lies at `offset` and takes `bytes`.
void add_keywords(Binding& b, const Declared& parameter, size_t offset, size_t bytes) {
    const auto structure = structures().find(parameter.type);
    if (structure == structures().end()) {
        b.keywords.push_back(keyword(parameter.name, parameter.type, offset, false));
        return;
    }
    const bool optional = structure->second.find('=') != Text::npos;  // its fields have defaults
    const size_t first = b.keywords.size();
    size_t at = 0;
    for (const Declared& field : fields_of(structure->second)) {
        const size_t size = size_of(field.type);
        at = (at + size - 1) / size * size;
        b.keywords.push_back(keyword(field.name, field.type, offset + at, optional));
        at += size;
    }
    if ((at + 7) / 8 * 8 != bytes) throw std::logic_error("kernels.def: the fields of " + parameter.type);
    Keyword whole{PyUnicode_InternFromString(parameter.name.c_str()), parameter.type, Kind::structure, offset};
    whole.optional = true;
    whole.bytes = bytes;
    for (size_t i = first; i <= b.keywords.size(); ++i) whole.provides |= uint64_t(1) << i;
    b.keywords.insert(b.keywords.begin() + std::ptrdiff_t(first), whole);
}

template <class F>
struct Signature;
template <class R, class... P>
struct Signature<R (*)(P...)> {
    using Block = std::tuple<std::decay_t<P>...>;

    static int64_t call(R (*function)(P...), const void* block) {
        if constexpr (std::is_void_v<R>) {
            std::apply(function, *static_cast<const Block*>(block));
            return 0;
        } else {
            return std::apply(function, *static_cast<const Block*>(block));
        }
    }

    template <size_t... I>
    static void describe(Binding& b, std::index_sequence<I...>) {
        const Block block{};
        const auto* const start = reinterpret_cast<const unsigned char*>(&block);
        const std::vector<Text> parameters = split(b.parameters, ',');
        (add_keywords(b, declared(parameters.at(I)),
                      size_t(reinterpret_cast<const unsigned char*>(&std::get<I>(block)) - start),
                      sizeof(std::tuple_element_t<I, Block>)),
         ...);
        b.initial.assign(start, start + sizeof block);
    }
};

PyObject* call(PyObject* self, PyObject* const* values, Py_ssize_t positional, PyObject* names);

// A function of `module` that takes what `b` says.
bool define(PyObject* module, Binding& b) {
    if (b.keywords.size() > MOST_KEYWORDS) throw std::logic_error("kernels.def: too many keywords");
    for (size_t i = 0; i < b.keywords.size(); ++i) b.required |= uint64_t(!b.keywords[i].optional) << i;
    b.method = {b.name.c_str(), reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&call)),
                METH_FASTCALL | METH_KEYWORDS, b.parameters.c_str()};
    PyObject* const self = PyCapsule_New(&b, nullptr, nullptr);
    PyObject* const function = self ? PyCFunction_NewEx(&b.method, self, nullptr) : nullptr;
    Py_XDECREF(self);
    return function && PyModule_AddObject(module, b.name.c_str(), function) == 0;
}

template <auto F32, auto F64>
bool bind_kernel(PyObject* module, const char* name, const char* parameters) {
    using S32 = Signature<std::decay_t<decltype(std::declval<Kernels<float>&>().*F32)>>;
    using S64 = Signature<std::decay_t<decltype(std::declval<Kernels<double>&>().*F64)>>;
    static_assert(sizeof(typename S32::Block) == sizeof(typename S64::Block), "a block does not depend on the dtype");
    static_assert(sizeof(typename S32::Block) <= MOST_BYTES);
    static Binding binding;
    binding.name = name;
    binding.parameters = parameters;
    S32::describe(binding, std::make_index_sequence<std::tuple_size_v<typename S32::Block>>());
    binding.run = [](const Isa& isa, bool wide, const void* block) {
        return wide ? S64::call(isa.f64.*F64, block) : S32::call(isa.f32.*F32, block);
    };
    return define(module, binding);
}

template <class S>
bool bind_structure(PyObject* module, const char* name) {
    static Binding binding;
    binding.name = name;
    binding.parameters = Text("const ") + name + "& it";
    Signature<void (*)(const S&)>::describe(binding, std::index_sequence<0>());
    return define(module, binding);
}

// -- a call ---------------------------------------------------------------------------------------------------------------

// The arguments of a call, and the arrays among them, held while it runs.
struct Call {
    const Binding& binding;
    alignas(16) unsigned char block[MOST_BYTES];
    Py_buffer views[MOST_KEYWORDS];
    const Keyword* viewed_by[MOST_KEYWORDS];
    size_t viewed = 0;
    char dtype = 0;  // of T, where an array has told it

    explicit Call(const Binding& b) : binding(b) { std::memcpy(block, b.initial.data(), b.initial.size()); }
    ~Call() {
        for (size_t i = 0; i < viewed; ++i) PyBuffer_Release(&views[i]);
    }

    template <class V>
    bool put(const Keyword& k, V value) {
        std::memcpy(block + k.offset, &value, sizeof value);
        return true;
    }

    bool put_integer(const Keyword& k, PyObject* value) {
        const int64_t number = PyLong_AsLongLong(value);
        return !(number == -1 && PyErr_Occurred()) && put(k, number);
    }

    bool put_natural(const Keyword& k, PyObject* value) {
        PyObject* const index = PyNumber_Index(value);
        if (!index) return false;
        const uint64_t number = PyLong_AsUnsignedLongLong(index);
        Py_DECREF(index);
        return !PyErr_Occurred() && put(k, number);
    }

    bool put_real(const Keyword& k, PyObject* value) {
        const double number = PyFloat_AsDouble(value);
        return !(number == -1.0 && PyErr_Occurred()) && put(k, number);
    }

    bool put_truth(const Keyword& k, PyObject* value) {
        const int truth = PyObject_IsTrue(value);
        return truth >= 0 && put(k, bool(truth));
    }

    bool put_name(const Keyword& k, PyObject* value) {
        for (size_t i = 0; i < k.names->size(); ++i)
            if ((*k.names)[i] == value) return put(k, int(i));
        for (size_t i = 0; PyUnicode_Check(value) && i < k.names->size(); ++i)
            if (PyUnicode_Compare((*k.names)[i], value) == 0) return put(k, int(i));
        PyErr_Format(PyExc_ValueError, "%s: %U: got %R; must be a value of %s", binding.name.c_str(), k.key, value, k.type.c_str());
        return false;
    }

    bool put_structure(const Keyword& k, PyObject* value) {
        if (!PyBytes_Check(value) || size_t(PyBytes_GET_SIZE(value)) != k.bytes) {
            PyErr_Format(PyExc_TypeError, "%s: %U: got %R; must be a %s", binding.name.c_str(), k.key, value, k.type.c_str());
            return false;
        }
        std::memcpy(block + k.offset, PyBytes_AS_STRING(value), k.bytes);
        return true;
    }

    bool put_memory(const Keyword& k, PyObject* value) {
        if (value == Py_None && k.optional) return true;
        Py_buffer& view = views[viewed];
        if (PyObject_GetBuffer(value, &view, PyBUF_STRIDES | PyBUF_FORMAT | (k.written ? PyBUF_WRITABLE : 0)) != 0) return false;
        viewed_by[viewed++] = &k;
        char format = view.format[1] ? 0 : view.format[0];
        if (format == 'q' && view.itemsize == 8) format = 'l';
        const bool fits = k.format != 'T' ? format == k.format
                          : dtype         ? format == dtype
                                          : format == 'f' || format == 'd';
        if (!fits) {
            PyErr_Format(PyExc_TypeError, "%s: %U: got an array of '%s'; must be %s%s", binding.name.c_str(), k.key, view.format,
                         k.type.c_str(), k.format != 'T' ? "" : dtype == 'f' ? ", T is float" : dtype ? ", T is double" : ", float or double");
            return false;
        }
        if (k.format == 'T') dtype = format;
        return put(k, view.buf);
    }

    bool put_value(const Keyword& k, PyObject* value) {
        switch (k.kind) {
            case Kind::integer: return put_integer(k, value);
            case Kind::natural: return put_natural(k, value);
            case Kind::real: return put_real(k, value);
            case Kind::truth: return put_truth(k, value);
            case Kind::name: return put_name(k, value);
            case Kind::memory: return put_memory(k, value);
            case Kind::structure: return put_structure(k, value);
        }
        return false;
    }

    // Where the keyword is, looked for first at `expected`: callers name them in the order of kernels.def.
    int find(PyObject* key, size_t expected) const {
        const std::vector<Keyword>& keywords = binding.keywords;
        if (expected < keywords.size() && keywords[expected].key == key) return int(expected);
        for (size_t i = 0; i < keywords.size(); ++i)
            if (keywords[i].key == key) return int(i);
        for (size_t i = 0; i < keywords.size(); ++i)
            if (PyUnicode_Compare(keywords[i].key, key) == 0) return int(i);
        return -1;
    }

    uint64_t missing = binding.required;
    size_t expected = 0;

    bool take_one(PyObject* key, PyObject* value) {
        const int at = find(key, expected);
        if (at < 0) {
            PyErr_Format(PyExc_TypeError, "%s: got %R; takes %s", binding.name.c_str(), key, binding.parameters.c_str());
            return false;
        }
        const Keyword& k = binding.keywords[size_t(at)];
        missing &= ~(uint64_t(1) << at | k.provides);
        expected = size_t(at) + 1;
        return put_value(k, value);
    }

    bool take(PyObject* const* values, Py_ssize_t positional, PyObject* names) {
        if (positional == 1 && PyDict_Check(values[0])) {
            PyObject *key, *value;
            for (Py_ssize_t place = 0; PyDict_Next(values[0], &place, &key, &value);)
                if (!take_one(key, value)) return false;
        } else if (positional) {
            PyErr_Format(PyExc_TypeError, "%s: takes keywords, or a dict of them: %s", binding.name.c_str(), binding.parameters.c_str());
            return false;
        }
        for (Py_ssize_t i = 0; names && i < PyTuple_GET_SIZE(names); ++i)
            if (!take_one(PyTuple_GET_ITEM(names, i), values[positional + i])) return false;
        if (missing) {
            PyErr_Format(PyExc_TypeError, "%s: %U is missing", binding.name.c_str(), binding.keywords[size_t(__builtin_ctzll(missing))].key);
            return false;
        }
        return true;
    }
};

void record(const Call& c) {
    Recorded& made = recording->emplace_back();
    made.kernel = c.binding.name;
    made.run = c.binding.run;
    made.wide = c.dtype == 'd';
    made.block.assign(c.block, c.block + c.binding.initial.size());
    for (size_t i = 0; i < c.viewed; ++i) {
        const Keyword& k = *c.viewed_by[i];
        const Py_buffer& view = c.views[i];
        made.touched.push_back({PyUnicode_AsUTF8(k.key), k.offset, uintptr_t(view.buf), view.len, k.written, k.optional});
        made.owners.push_back(Py_NewRef(view.obj));
    }
}

PyObject* call(PyObject* self, PyObject* const* values, Py_ssize_t positional, PyObject* names) {
    Call c(*static_cast<const Binding*>(PyCapsule_GetPointer(self, nullptr)));
    if (!c.take(values, positional, names)) return nullptr;
    if (!c.binding.run) return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(c.block), Py_ssize_t(c.binding.initial.size()));
    int64_t result = 0;
    bool no_memory = false;
    PyThreadState* const thread = PyEval_SaveThread();
    try {
        result = c.binding.run(*isa_in_use, c.dtype == 'd', c.block);
    } catch (const std::bad_alloc&) {
        no_memory = true;
    }
    PyEval_RestoreThread(thread);
    if (no_memory) return PyErr_NoMemory();
    if (recording) record(c);
    return PyLong_FromLongLong(result);
}

}  // namespace

bool bind_kernels(PyObject* module) {
    return true
#define STRUCT(name, ...) &&bind_structure<name>(module, #name)
#define KERNEL(result, name, ...) &&bind_kernel<&Kernels<float>::name, &Kernels<double>::name>(module, #name, #__VA_ARGS__)
#include "kernels.def"
        ;
}

}  // namespace lucid
