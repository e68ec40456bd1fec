#pragma once

#include <cstddef>
#include <cstdint>

namespace rankine {

// Position of the first id outside [0, rows), else -1.  rows >= 0.
std::int64_t check_ids(const std::int32_t* ids, std::size_t count, std::int64_t rows);
std::int64_t check_ids(const std::int64_t* ids, std::size_t count, std::int64_t rows);

}  // namespace rankine
