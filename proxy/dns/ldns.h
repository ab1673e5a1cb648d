// ldns for C++: its headers define `bool`, `true` and `false` as macros, which breaks every header after
// them.
#pragma once

#include <ldns/ldns.h>

#undef bool
#undef true
#undef false
