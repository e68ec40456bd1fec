#include "id_list.h"

#include <algorithm>

namespace rankine {
namespace {

constexpr int kMostDigits = 18;  // all of them fit into int64

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// A cursor over text that is not terminated: it never looks at or past `end`.
struct Cursor {
  const char* at;
  const char* end;

  bool done() const { return at == end; }
  void skip_spaces() {
    while (at != end && is_space(*at)) ++at;
  }
  bool takes(char wanted) {
    if (at == end || *at != wanted) return false;
    ++at;
    return true;
  }
};

bool read_number(Cursor& cursor, std::int64_t& number) {
  const bool negative = cursor.takes('-');
  const char* const begin = cursor.at;
  std::int64_t value = 0;
  while (!cursor.done() && is_digit(*cursor.at)) {
    if (cursor.at - begin == kMostDigits) return false;
    value = 10 * value + (*cursor.at++ - '0');
  }
  const auto digits = cursor.at - begin;
  if (digits == 0 || (digits > 1 && *begin == '0')) return false;  // JSON has no leading zeros
  number = negative ? -value : value;
  return true;
}

}  // namespace

std::int64_t read_id_list(const char* text, std::size_t size, std::int64_t* ids, std::size_t room) {
  Cursor cursor{text, text + size};
  cursor.skip_spaces();
  if (!cursor.takes('[')) return -1;
  std::size_t count = 0;
  cursor.skip_spaces();
  if (!cursor.takes(']')) {
    do {
      if (count == room) return -1;
      cursor.skip_spaces();
      if (!read_number(cursor, ids[count])) return -1;
      ++count;
      cursor.skip_spaces();
    } while (cursor.takes(','));
    if (!cursor.takes(']')) return -1;
  }
  cursor.skip_spaces();
  return cursor.done() ? static_cast<std::int64_t>(count) : -1;
}

void find_places(const std::int64_t* ids, std::size_t count, std::int64_t first, const std::int32_t* at,
                 std::size_t at_count, std::int64_t* found) {
  const std::uint64_t last = at_count - 1;
  for (std::size_t i = 0; i < count; ++i) {
    // What is below the first, or so far above that the difference wraps, is a large number without its sign.
    const std::uint64_t step = static_cast<std::uint64_t>(ids[i]) - static_cast<std::uint64_t>(first);
    found[i] = at[std::min(step, last)];
  }
}

}  // namespace rankine
