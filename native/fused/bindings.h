#pragma once

#include <nanobind/nanobind.h>

namespace rankine::fused {

// Adds the native engine's classes to the module.
void add_engine(nanobind::module_& module);

}  // namespace rankine::fused
