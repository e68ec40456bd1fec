// Tables that are made of two plain ones.
#include "lookup_loops.h"

namespace rankine {

RANKINE_DEFINE_LOOKUPS(MixedRows)
RANKINE_DEFINE_LOOKUPS(QuotientRemainderRows)

}  // namespace rankine
