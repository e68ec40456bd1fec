// A program as it is run: the records of a file, checked once, so that running needs no checks.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "format.h"
#include "kernels.h"

namespace rankine::fused {

// Where an operand lies: in the constants, or in the arena at place * T + offset, `stride` bytes from row to row.
struct Slot {
  const std::byte* constant = nullptr;
  std::size_t place = 0;
  std::size_t offset = 0;  // bytes
  std::size_t stride = 0;  // bytes; 0: the same for every row
  bool given = false;
};

// One dimension of a loop over elements: its size, times the rows of the tile where it runs over them.
struct Dimension {
  std::size_t size = 1;
  bool rows = false;
  std::size_t stride[3] = {0, 0, 0};  // elements
};

struct Operation {
  Code code;
  std::uint16_t kind;
  std::size_t groups;
  Slot x[6];
  std::size_t d[4];
  std::size_t s0[4], s1[4], s2[4];
  const std::byte* c[6];
  float f[4];
  std::vector<Dimension> loop;  // of kUnary, kBinary and kCopyUint8, outermost first
  std::vector<std::int32_t> indices;  // of kTake: a copy, as a mapped file may change after it was checked
  // Of linear layers, made when the program is read: see Epilogue and LinearCall.
  std::vector<float> code_scale;
  std::vector<float> code_bias;
  std::vector<float> narrow;
};

struct Input {
  Type type;
  std::size_t width;
  Slot slot;
};

class Program {
 public:
  // `bytes` must stay readable as long as the program lives.  Throws std::invalid_argument for what is no program, with
  // what is wrong in words: nothing that a file says is believed.
  Program(const std::byte* bytes, std::size_t size);

  std::size_t tasks() const { return tasks_; }
  std::size_t row_bytes() const { return row_bytes_; }
  std::size_t weight_bytes() const { return weight_bytes_; }
  // Floats that the operations need beside the arena.
  std::size_t scratch() const { return scratch_; }
  const std::vector<Input>& inputs() const { return inputs_; }
  const std::vector<Operation>& operations() const { return operations_; }
  const Slot& out() const { return out_; }

 private:
  std::size_t tasks_ = 0;
  std::size_t row_bytes_ = 0;
  std::size_t weight_bytes_ = 0;
  std::size_t scratch_ = 0;
  std::vector<Input> inputs_;
  std::vector<Operation> operations_;
  Slot out_;
};

}  // namespace rankine::fused
