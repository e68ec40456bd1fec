#pragma once

#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

namespace rankine {

// The head of an HTTP/1.1 request, as views of the bytes that it was read from.
struct HttpHead {
  std::string_view first;  // line
  std::vector<std::pair<std::string_view, std::string_view>> fields;  // names as sent, values without spaces around
  std::size_t bytes = 0;  // with the empty line
};

// Reads a whole head of at most `most` bytes at the start of `data`: names are tokens (RFC 9110, 5.6.2), values are
// printable ASCII. Returns false where it is anything else, which may be a valid head all the same.
bool read_http_head(std::string_view data, std::size_t most, HttpHead& head);

}  // namespace rankine
