#include "ids.h"

#include <algorithm>
#include <limits>

#include "multiversion.h"

namespace rankine {
namespace {

// A block without early exit vectorizes; the exact position is looked for only in a block that has a bad id.
constexpr std::size_t kBlock = 1024;

template <class Unsigned, class Id>
RANKINE_INLINE std::int64_t first_bad(const Id* RANKINE_RESTRICT ids, std::size_t count, Unsigned limit) {
  for (std::size_t begin = 0; begin < count; begin += kBlock) {
    const std::size_t end = std::min(begin + kBlock, count);
    Unsigned bad = 0;
    // A negative id is a large unsigned number: one comparison checks both ends.
    for (std::size_t i = begin; i < end; ++i) bad |= static_cast<Unsigned>(static_cast<Unsigned>(ids[i]) >= limit);
    if (bad == 0) continue;
    for (std::size_t i = begin; i < end; ++i)
      if (static_cast<Unsigned>(ids[i]) >= limit) return static_cast<std::int64_t>(i);
  }
  return -1;
}

RANKINE_CLONES std::int64_t check_32(const std::int32_t* ids, std::size_t count, std::uint32_t limit) {
  return first_bad<std::uint32_t>(ids, count, limit);
}

RANKINE_CLONES std::int64_t check_64(const std::int64_t* ids, std::size_t count, std::uint64_t limit) {
  return first_bad<std::uint64_t>(ids, count, limit);
}

}  // namespace

std::int64_t check_ids(const std::int32_t* ids, std::size_t count, std::int64_t rows) {
  // Every non-negative int32 is below 2^31: a larger table needs no larger limit.
  const std::int64_t limit = std::min<std::int64_t>(rows, std::int64_t{std::numeric_limits<std::int32_t>::max()} + 1);
  return check_32(ids, count, static_cast<std::uint32_t>(limit));
}

std::int64_t check_ids(const std::int64_t* ids, std::size_t count, std::int64_t rows) {
  return check_64(ids, count, static_cast<std::uint64_t>(rows));
}

}  // namespace rankine
