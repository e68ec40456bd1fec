#include "lookup_loops.h"

namespace rankine {

RANKINE_DEFINE_LOOKUPS(FloatRows)
RANKINE_DEFINE_LOOKUPS(HalfRows)
RANKINE_DEFINE_LOOKUPS(Int8Rows)
RANKINE_DEFINE_LOOKUPS(Int8HalfRows)
RANKINE_DEFINE_LOOKUPS(Int4Rows)
RANKINE_DEFINE_LOOKUPS(Int4HalfRows)

std::int64_t gather_dense(const FloatRows& values, const Target& target) {
  for (std::size_t r = 0; r < target.rows; ++r)
    if (!visit_value<0>(values, target.index[r], Write{target.cells + r * target.width + target.column}))
      return static_cast<std::int64_t>(r);
  return -1;
}

}  // namespace rankine
