// Memory for results. What an array gives back is kept and handed out again, whole or in parts, from the lowest address on: the
// pages of a new mapping cost more than many kernels that fill them. The store holds results and unused memory of at most a
// quarter more than results alone have taken, or 256 MiB.
#pragma once

#include <cstddef>

#include "tuning.h"

namespace lucid {

// Aligned memory straight from the system; what is large asks for huge pages. Throws std::bad_alloc.
void* system_allocate(size_t bytes);
void system_free(void* memory, size_t bytes);

// The same from the store, and back into it.
void* take_memory(size_t bytes);
void give_memory(void* memory, size_t bytes);

// Gives everything that lies unused back to the system; returns how many bytes that were.
size_t empty_store();

}  // namespace lucid
