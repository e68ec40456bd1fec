#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "http_head.h"

namespace rankine {

// A whole HTTP/1.1 request that needs no parser, as views of the bytes that it was read from.
struct PlainRequest {
  std::size_t line = 0;  // which of the first lines that are meant
  std::vector<std::pair<std::string, std::string_view>> fields;  // names in lower case
  std::size_t head_bytes = 0;
  HttpHead head;  // scratch

  // The value of a field; nullptr where it is not there.
  const std::string_view* field(std::string_view name) const;
};

// Reads the JSON request that `data` is, no more and no less, with a head of at most `most_head` bytes, one of `lines`
// as its first, and a body of the announced length. Returns false where it is anything else: whatever is shorter,
// longer, repeated, encoded, upgraded, or not quite as RFC 9112 has it.
bool read_plain_request(std::string_view data, const std::vector<std::string>& lines, std::size_t most_head,
                        PlainRequest& request);

// The number that `text` is, of at most `most_digits` decimal digits; false where it is anything else.
bool read_digits(std::string_view text, std::size_t most_digits, std::size_t& number);

}  // namespace rankine
