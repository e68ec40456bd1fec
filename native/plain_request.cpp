#include "plain_request.h"

#include <algorithm>
#include <array>

namespace rankine {
namespace {

constexpr std::string_view kJson = "application/json";
constexpr std::size_t kLengthDigits = 9;
// Fields that change how a message is read or answered: a parser sees to them.
constexpr std::array<std::string_view, 8> kSpecial = {"content-encoding", "expect",            "keep-alive",
                                                      "proxy-connection", "te",                "trailer",
                                                      "transfer-encoding", "upgrade"};

void lower(std::string_view from, std::string& into) {
  into.assign(from);
  for (char& c : into) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
}

bool is_keep_alive(std::string_view value) {
  std::string text;
  lower(value, text);
  return text == "keep-alive";
}

}  // namespace

const std::string_view* PlainRequest::field(std::string_view name) const {
  for (const auto& [known, value] : fields) {
    if (known == name) return &value;
  }
  return nullptr;
}

bool read_digits(std::string_view text, std::size_t most_digits, std::size_t& number) {
  if (text.empty() || text.size() > most_digits) return false;
  number = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    number = 10 * number + static_cast<std::size_t>(c - '0');
  }
  return true;
}

bool read_plain_request(std::string_view data, const std::vector<std::string>& lines, std::size_t most_head,
                        PlainRequest& request) {
  if (!read_http_head(data, most_head, request.head)) return false;
  const auto line = std::find(lines.begin(), lines.end(), request.head.first);
  if (line == lines.end()) return false;
  request.line = static_cast<std::size_t>(line - lines.begin());
  request.head_bytes = request.head.bytes;
  const auto& sent = request.head.fields;
  request.fields.resize(sent.size());
  for (std::size_t at = 0; at < sent.size(); ++at) {
    auto& [name, value] = request.fields[at];
    lower(sent[at].first, name);
    value = sent[at].second;
    if (std::find(kSpecial.begin(), kSpecial.end(), name) != kSpecial.end()) return false;
    for (std::size_t before = 0; before < at; ++before) {
      if (request.fields[before].first == name) return false;
    }
  }
  if (request.field("host") == nullptr) return false;
  const std::string_view* length = request.field("content-length");
  std::size_t announced = 0;
  if (length == nullptr || !read_digits(*length, kLengthDigits, announced)) return false;
  if (announced != data.size() - request.head_bytes) return false;
  const std::string_view* type = request.field("content-type");
  if (type != nullptr && *type != kJson) return false;
  const std::string_view* connection = request.field("connection");
  return connection == nullptr || is_keep_alive(*connection);
}

}  // namespace rankine
