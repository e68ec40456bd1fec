#include "http_head.h"

#include <array>
#include <cstdint>

namespace rankine {
namespace {

constexpr std::string_view kLineEnd = "\r\n";

constexpr std::array<bool, 256> token_bytes() {
  std::array<bool, 256> is{};
  for (const char c : std::string_view("!#$%&'*+-.^_`|~0123456789"
                                       "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")) {
    is[static_cast<std::uint8_t>(c)] = true;
  }
  return is;
}

constexpr std::array<bool, 256> kToken = token_bytes();

bool is_token(std::string_view text) {
  for (const char c : text) {
    if (!kToken[static_cast<std::uint8_t>(c)]) return false;
  }
  return !text.empty();
}

bool is_printable(std::string_view text) {
  for (const char c : text) {
    if ((c < ' ' && c != '\t') || c > '~') return false;
  }
  return true;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpaces = " \t";
  const std::size_t begin = text.find_first_not_of(kSpaces);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpaces) - begin + 1);
}

}  // namespace

bool read_http_head(std::string_view data, std::size_t most, HttpHead& head) {
  const std::string_view looked_at = data.substr(0, most);
  head.fields.clear();
  std::size_t at = 0;
  for (bool is_first = true;; is_first = false) {
    const std::size_t end = looked_at.find(kLineEnd, at);
    if (end == std::string_view::npos) return false;
    const std::string_view line = looked_at.substr(at, end - at);
    at = end + kLineEnd.size();
    if (line.empty()) {
      head.bytes = at;
      return !is_first;
    }
    if (!is_printable(line)) return false;
    if (is_first) {
      head.first = line;
      continue;
    }
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) return false;
    head.fields.emplace_back(line.substr(0, colon), trimmed(line.substr(colon + 1)));
  }
}

}  // namespace rankine
