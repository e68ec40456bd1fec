// What libFuzzer calls with any bytes: they are loaded as a program and, where that is small, run; sanitizers look on.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <stdexcept>

#include "fused/program.h"
#include "programs.h"
#include "random.h"

namespace {

using rankine::fused::Header;
using rankine::fused::Program;

constexpr std::size_t kRows = 5;

struct Free {
  void operator()(std::byte* memory) const { std::free(memory); }
};

// A copy of exactly that size, aligned as a mapped file is.
std::unique_ptr<std::byte, Free> copy_of(const std::uint8_t* data, std::size_t size) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 64, size) != 0) throw std::bad_alloc();
  std::memcpy(memory, data, size);
  return std::unique_ptr<std::byte, Free>(static_cast<std::byte*>(memory));
}

// The loader refuses at once what has another beginning or another size: so the fuzzer would look at little else.
void mend(std::byte* bytes, std::size_t size) {
  Header header;
  std::memcpy(&header, bytes, sizeof header);
  std::memcpy(header.magic, rankine::fused::kMagic, sizeof header.magic);
  header.version = rankine::fused::kVersion;
  header.constants_bytes = size - header.constants_offset;
  std::memcpy(bytes, &header, sizeof header);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = copy_of(data, size);
  if (size >= sizeof(Header)) mend(bytes.get(), size);
  std::unique_ptr<const Program> program;
  try {
    program = std::make_unique<const Program>(bytes.get(), size);
  } catch (const std::invalid_argument&) {
    return 0;
  }
  if (!rankine::tests::is_small(*program, kRows)) return 0;
  for (const auto* kernels : rankine::tests::all_kernels()) rankine::tests::run_tile(*program, *kernels, kRows, 1);
  return 0;
}
