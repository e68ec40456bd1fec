#pragma once

#include <nanobind/nanobind.h>

namespace rankine {

// Adds read_plain_request and Reactor to the module.
void add_reactor(nanobind::module_& module);

}  // namespace rankine
