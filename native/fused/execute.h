// Runs a program's operations on a tile of rows.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels.h"
#include "program.h"

namespace rankine::fused {

// Memory for `capacity` rows of a program.  Its bytes are zero at first, so that padding never holds what is no number.
class Tile {
 public:
  Tile(const Program& program, std::size_t capacity);

  // Row 0 of what lies in a slot, where tiles are of `rows` rows.
  template <class T>
  T* at(const Slot& slot, std::size_t rows) const {
    const std::byte* found = slot.constant != nullptr ? slot.constant : arena_ + slot.place * rows + slot.offset;
    return reinterpret_cast<T*>(const_cast<std::byte*>(found));
  }

  float* scratch() const { return scratch_; }
  std::size_t capacity() const { return capacity_; }

 private:
  std::unique_ptr<std::byte[]> memory_;
  std::byte* arena_;
  float* scratch_;
  std::size_t capacity_;
};

// The rows that a tile of a program should have: whole blocks of the kernels, whose values fit the second cache; where
// nothing is fetched ahead, with the bytes that a row gathers.
std::size_t tile_rows(const Program& program, const Kernels& kernels, std::size_t gathered_bytes);

// All operations on the first `rows` rows of the tile, whose inputs are filled; rows <= tile.capacity().  Layers fetch
// what lies `ahead`, and the nanoseconds of each operation are added to `spent`; either may be nullptr.
void execute(const Program& program, const Kernels& kernels, const Tile& tile, std::size_t rows, Ahead* ahead,
             std::uint64_t* spent);

// Nanoseconds since the last call; of a clock of its own.
class Stopwatch {
 public:
  std::uint64_t lap() {
    const auto now = std::chrono::steady_clock::now();
    const auto passed = std::chrono::duration_cast<std::chrono::nanoseconds>(now - last_);
    last_ = now;
    return static_cast<std::uint64_t>(passed.count());
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace rankine::fused
