// What operator new hands out in the tests: counted and, where asked for, right before a page that may not be touched.
#pragma once

#include <cstddef>

namespace rankine::tests {

// Calls of operator new, of all threads, since the program began.
std::size_t allocations();

// While it lives, arrays that its thread makes with new[] end (up to their alignment) at a forbidden page.
class GuardedArrays {
 public:
  GuardedArrays();
  ~GuardedArrays();
  GuardedArrays(const GuardedArrays&) = delete;
  GuardedArrays& operator=(const GuardedArrays&) = delete;
};

}  // namespace rankine::tests
