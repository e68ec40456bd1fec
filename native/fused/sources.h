// Where the inputs of a program come from: looked up in tables, or gathered from what was computed before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../gather.h"
#include "../lookup.h"
#include "../rows.h"
#include "execute.h"
#include "program.h"

namespace rankine::fused {

enum class Origin { kOne, kBag, kSequence, kDense, kStored };
enum class Side { kRequest, kItem, kPair };

// What fills columns [column, column + width) of one input.
struct Source {
  Origin origin;
  Side side;                   // of the index; kStored: kRequest where only the request's row is gathered
  std::size_t values;          // number of the array that a call gives
  const TableRows* table;      // of kOne, kBag and kSequence
  Pooling pooling;
  std::size_t length;          // of a sequence
  std::size_t input;
  std::size_t column;
  std::size_t width;
  std::size_t start;           // of kStored: first column of its row
  bool added;                  // whether the request's row is added, from added_start on
  std::size_t added_start;
  bool rounded;                // into an input of bytes
  float floor, step, zero;
};

enum class Cells { kNone, kFloat32, kFloat16, kUint8, kInt32 };

// An array that a call gives.  Ids: cells (count,); lists of ids: with offsets; rows of numbers: cells (count, dim).
struct Column {
  Cells kind = Cells::kNone;
  const void* cells = nullptr;
  std::size_t count = 0;
  std::size_t dim = 1;
  const std::int32_t* offsets = nullptr;
  std::size_t lists = 0;
  const float* weights = nullptr;
  const float* scale = nullptr;
  const float* bias = nullptr;
};

struct Batch {
  std::size_t rows;
  const std::int32_t* request_index;
  const std::int32_t* item_index;
  const Column* columns;
  const float* shared;  // what is computed once a request: (requests, shared_width)
  std::size_t requests;
  std::size_t shared_width;
};

// Whether an array fits the source: its type and width; what is wrong in words, nullptr where nothing is.
const char* misfit(const Source& source, const Column& column);

// Writes the source's columns of rows [first, first + rows) of the batch; the first row, counted from `first`, with an
// index or an id out of range, else -1.  numbers: first, first + 1, ...; scratch: as many floats as the source is wide.
std::int64_t fill(const Source& source, const Batch& batch, std::size_t first, std::size_t rows, const Input& input,
                  std::byte* cells, const std::int32_t* numbers, float* scratch);

}  // namespace rankine::fused
