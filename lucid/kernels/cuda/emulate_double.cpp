// Every kernel file as C++, for double.
#define LUCID_T double
#include "emulate_all.h"
