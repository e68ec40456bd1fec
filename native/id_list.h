#pragma once

#include <cstddef>
#include <cstdint>

namespace rankine {

// Reads a JSON list of whole numbers, at most `room` of them, as clients write them: no fraction, no exponent, at most
// 18 digits. Returns how many it has read; -1 where the text is anything else, which may be valid JSON all the same.
std::int64_t read_id_list(const char* text, std::size_t size, std::int64_t* ids, std::size_t room);

// Positions of `ids` in a table by the id itself: `at[id - first]`, whose last entry stands for all ids outside of it.
// at_count >= 1.
void find_places(const std::int64_t* ids, std::size_t count, std::int64_t first, const std::int32_t* at,
                 std::size_t at_count, std::int64_t* found);

}  // namespace rankine
