// How Python calls the kernels of kernels.def: by name, with keywords alone.
//
//     conv(conv=Conv(n=1, h=8, ..), x=array, weight=array, packed=False, relu=True, y=array)
//
// Keywords may come as one dict, too. A structure is made of its fields by the function of its name, once for many calls; or its fields are keywords of the
// kernel that takes it. An enumeration is given by the name of its value; a pointer is an array, and None or nothing where
// it is a Maybe. What is missing, unknown or of another dtype is an error that names it. A call is checked and put into a
// block of memory, its arguments side by side, and run from there with the GIL released.
#pragma once

#include <Python.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kernels.h"

namespace lucid {

// The instruction set whose kernels are called.
extern const Isa* isa_in_use;

// An array of a call: the keyword it was given by, where its address stands in the block, and the memory that it spans.
struct Touched {
    std::string keyword;
    size_t offset;
    uintptr_t address;
    int64_t bytes;
    bool written, optional;
};

// A call that was made, to be made again on other memory. It keeps the arrays of the first call alive.
struct Recorded {
    std::string kernel;
    int64_t (*run)(const Isa&, bool wide, const void* block);
    bool wide;
    std::vector<unsigned char> block;
    std::vector<Touched> touched;
    std::vector<PyObject*> owners;

    Recorded() = default;
    Recorded(const Recorded&) = delete;
    Recorded(Recorded&&) = default;
    ~Recorded() { release(); }
    void release() {
        for (PyObject* owner : owners) Py_DECREF(owner);
        owners.clear();
    }
};

// Where this thread writes down the calls that it makes, or null.
extern thread_local std::vector<Recorded>* recording;

// Every kernel and structure of kernels.def as a function of `module`; false, and a Python error, if that fails.
bool bind_kernels(PyObject* module);

}  // namespace lucid
