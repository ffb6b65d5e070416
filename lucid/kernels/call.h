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

#include "kernels.h"

namespace lucid {

// The instruction set whose kernels are called.
extern const Isa* isa_in_use;

// Every kernel and structure of kernels.def as a function of `module`; false, and a Python error, if that fails.
bool bind_kernels(PyObject* module);

}  // namespace lucid
