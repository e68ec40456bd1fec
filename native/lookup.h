// Row lookups: index -> value -> row of a table, written into a slice of a wider output.
//
// Every index, offset and value is checked right before it is used, from the one copy that was loaded: nothing outside
// the arrays is read, even if another thread writes to them meanwhile.  A kernel stops at the first bad row and
// returns its position; -1 means all rows are written.  After a bad row the content of `out` is unspecified.
#pragma once

#include <cstddef>
#include <cstdint>

#include "half.h"

namespace rankine {

// (vocabulary, dim) values of type T.  For uint8: value = q * scale[row] + bias[row]; else scale and bias are null.
template <class T>
struct Table {
  const T* cells;
  const float* scale;
  const float* bias;
  std::size_t vocabulary;
  std::size_t dim;
};

// Rows to write: row r goes to cells[r * width + column], for r < rows.  index is (rows,).
struct Target {
  const std::int32_t* index;
  std::size_t rows;
  float* cells;
  std::size_t width;
  std::size_t column;
};

enum class Pooling { kSum, kMean, kMax };

// Bag i holds values[offsets[i]] ... values[offsets[i + 1] - 1]; weights is null or (count,).
struct Bags {
  const std::int32_t* values;
  std::size_t count;
  const std::int32_t* offsets;
  std::size_t bags;
  const float* weights;
  Pooling pooling;  // not read where lists are not pooled
};

template <class T>
std::int64_t lookup_one(const Table<T>& table, const std::int32_t* values, std::size_t count, const Target& target);

template <class T>
std::int64_t lookup_bag(const Table<T>& table, const Bags& bags, const Target& target);

// The rows of a bag one after the other, zeros up to `length` rows, then their number: length * dim + 1 columns.  A bag
// of more than `length` values is a bad row.
template <class T>
std::int64_t lookup_sequence(const Table<T>& table, const Bags& bags, std::size_t length, const Target& target);

// A table of floats that is addressed by the index itself.
std::int64_t gather_dense(const Table<float>& values, const Target& target);

extern template std::int64_t lookup_one(const Table<float>&, const std::int32_t*, std::size_t, const Target&);
extern template std::int64_t lookup_one(const Table<Half>&, const std::int32_t*, std::size_t, const Target&);
extern template std::int64_t lookup_one(const Table<std::uint8_t>&, const std::int32_t*, std::size_t, const Target&);
extern template std::int64_t lookup_bag(const Table<float>&, const Bags&, const Target&);
extern template std::int64_t lookup_bag(const Table<Half>&, const Bags&, const Target&);
extern template std::int64_t lookup_bag(const Table<std::uint8_t>&, const Bags&, const Target&);
extern template std::int64_t lookup_sequence(const Table<float>&, const Bags&, std::size_t, const Target&);
extern template std::int64_t lookup_sequence(const Table<Half>&, const Bags&, std::size_t, const Target&);
extern template std::int64_t lookup_sequence(const Table<std::uint8_t>&, const Bags&, std::size_t, const Target&);

}  // namespace rankine
