// Every kernel file as C++, for float.
#define LUCID_T float
#include "emulate_all.h"
