// Row lookups: index -> value -> row of a table, written into a slice of a wider output.
//
// Every index, offset and value is checked right before it is used, from the one copy that was loaded: nothing outside
// the arrays is read, even if another thread writes to them meanwhile.  A kernel stops at the first bad row and
// returns its position; -1 means all rows are written.  After a bad row the content of `out` is unspecified.
#pragma once

#include <cstddef>
#include <cstdint>

#include "rows.h"

namespace rankine {

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

// For every form of rows:
//   lookup_one       one row a value.
//   lookup_bag       the rows of a bag, pooled.
//   lookup_sequence  the rows of a bag one after the other, zeros up to `length` rows, then their number: length * dim +
//                    1 columns.  A bag of more than `length` values is a bad row.
#define RANKINE_DECLARE_LOOKUPS(Rows)                                                            \
  std::int64_t lookup_one(const Rows&, const std::int32_t* values, std::size_t count, const Target&); \
  std::int64_t lookup_bag(const Rows&, const Bags&, const Target&);                              \
  std::int64_t lookup_sequence(const Rows&, const Bags&, std::size_t length, const Target&);

RANKINE_DECLARE_LOOKUPS(FloatRows)
RANKINE_DECLARE_LOOKUPS(HalfRows)
RANKINE_DECLARE_LOOKUPS(Int8Rows)
RANKINE_DECLARE_LOOKUPS(Int8HalfRows)
RANKINE_DECLARE_LOOKUPS(Int4Rows)
RANKINE_DECLARE_LOOKUPS(Int4HalfRows)
RANKINE_DECLARE_LOOKUPS(MixedRows)
RANKINE_DECLARE_LOOKUPS(QuotientRemainderRows)

// Rows of floats that are addressed by the index itself.
std::int64_t gather_dense(const FloatRows& values, const Target& target);

}  // namespace rankine
