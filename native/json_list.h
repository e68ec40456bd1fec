#pragma once

#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace rankine {

// Writes a JSON list of numbers. Fractions are the shortest that read back the same, and have a point or an exponent,
// so that they read back as fractions; what is no number is null.
class JsonList {
 public:
  explicit JsonList(std::size_t count) : text_(2 + count * kMostDigits, '\0') { text_[size_++] = '['; }

  void add(std::int64_t value) {
    char* const begin = next();
    size_ += static_cast<std::size_t>(std::to_chars(begin, begin + kMostDigits, value).ptr - begin);
  }

  void add(double value) {
    char* const begin = next();
    if (!std::isfinite(value)) {
      append("null");
      return;
    }
    char* const end = std::to_chars(begin, begin + kMostDigits, value).ptr;
    const std::string_view written(begin, static_cast<std::size_t>(end - begin));
    size_ += written.size();
    if (written.find_first_of(".e") == std::string_view::npos) append(".0");
  }

  // All of it; nothing is added afterwards.
  std::string_view end() {
    text_[size_++] = ']';
    return {text_.data(), size_};
  }

 private:
  // With the comma: the longest fraction, as -1.2345678901234567e-308, has 24.
  static constexpr std::size_t kMostDigits = 28;

  char* next() {
    if (size_ > 1) text_[size_++] = ',';
    return text_.data() + size_;
  }

  void append(std::string_view more) {
    more.copy(text_.data() + size_, more.size());
    size_ += more.size();
  }

  std::string text_;
  std::size_t size_ = 0;
};

}  // namespace rankine
