#include "guarded.h"

#include <sys/mman.h>
#include <unistd.h>

#include <new>

namespace rankine::tests {
namespace {

std::size_t page_bytes() {
  static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

}  // namespace

Guarded::Guarded(std::size_t most_bytes)
    : size_((most_bytes + page_bytes() - 1) / page_bytes() * page_bytes()) {
  const std::size_t whole = size_ + 2 * page_bytes();
  void* found = mmap(nullptr, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (found == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<std::byte*>(found) + page_bytes();
  if (size_ != 0 && mprotect(memory_, size_, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
}

Guarded::~Guarded() { munmap(memory_ - page_bytes(), size_ + 2 * page_bytes()); }

std::byte* Guarded::bytes(std::size_t count, Edge edge) const {
  if (count > size_) throw std::bad_alloc();
  return edge == Edge::kStart ? memory_ : memory_ + size_ - count;
}

}  // namespace rankine::tests
