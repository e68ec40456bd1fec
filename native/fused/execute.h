// Runs a program's operations on a tile of rows.
#pragma once

#include <cstddef>
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

// The rows that a tile of a program should have: whole blocks of the kernels, in about half of a core's L2 cache.
std::size_t tile_rows(const Program& program);

// All operations on the first `rows` rows of the tile, whose inputs are filled; rows <= tile.capacity().
void execute(const Program& program, const Kernels& kernels, const Tile& tile, std::size_t rows);

}  // namespace rankine::fused
