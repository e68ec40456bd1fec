#include "lookup_loops.h"

namespace rankine {

RANKINE_DEFINE_LOOKUPS(FloatRows)
RANKINE_DEFINE_LOOKUPS(HalfRows)
RANKINE_DEFINE_LOOKUPS(Int8Rows)
RANKINE_DEFINE_LOOKUPS(Int8HalfRows)
RANKINE_DEFINE_LOOKUPS(Int4Rows)
RANKINE_DEFINE_LOOKUPS(Int4HalfRows)

namespace {

template <std::size_t kDim>
RANKINE_INLINE std::int64_t gather(const FloatRows& values, const Target& target) {
  for (std::size_t r = 0; r < target.rows; ++r)
    if (!visit_value<kDim>(values, target.index[r], Write{target.cells + r * target.width + target.column}))
      return static_cast<std::int64_t>(r);
  return -1;
}

}  // namespace

// Most dense features are single numbers, for which a loop over columns costs more than the copies.
std::int64_t gather_dense(const FloatRows& values, const Target& target) {
  return values.dim == 1 ? gather<1>(values, target) : gather<0>(values, target);
}

}  // namespace rankine
