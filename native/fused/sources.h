// Where the inputs of a program come from: looked up in tables, or gathered from what was computed before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

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
  float quant, zero, lowest;   // codes a unit, the code of zero, and the lowest
};

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
  const std::int32_t* request_index;  // nullptr: the rows are the requests
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
std::int64_t fill(const Source& source, const Kernels& kernels, const Batch& batch, std::size_t first, std::size_t rows,
                  const Input& input, std::byte* cells, const std::int32_t* numbers, float* scratch);

// Appends where the rows of `column` begin that rows [first, first + rows) of the batch read; those out of range are
// left out.  The bytes of a row are returned.
std::size_t rows_read(const Column& column, const std::int32_t* index, std::size_t first, std::size_t rows,
                      std::vector<const char*>& found);

}  // namespace rankine::fused
