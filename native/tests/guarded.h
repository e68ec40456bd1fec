// Memory between two pages that may not be touched: what reads or writes past its end crashes.  It sees what sanitizers
// do not, masked loads and stores and instructions in place.
#pragma once

#include <cstddef>
#include <cstring>

namespace rankine::tests {

// Where in its memory an array lies: right behind the first forbidden page, or right before the second.
enum class Edge { kStart, kEnd };
constexpr Edge kEdges[] = {Edge::kStart, Edge::kEnd};

class Guarded {
 public:
  explicit Guarded(std::size_t most_bytes);
  ~Guarded();
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  std::byte* bytes(std::size_t count, Edge edge) const;

  // An array of so many elements that is uninitialized; the one before is gone.
  template <class T>
  T* place(std::size_t count, Edge edge) const {
    return reinterpret_cast<T*>(bytes(count * sizeof(T), edge));
  }

  template <class T>
  T* copy(const T* from, std::size_t count, Edge edge) const {
    T* to = place<T>(count, edge);
    if (count != 0) std::memcpy(to, from, count * sizeof(T));
    return to;
  }

 private:
  std::byte* memory_;
  std::size_t size_;  // of what may be touched
};

}  // namespace rankine::tests
