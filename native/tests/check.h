// A framework of tests in one page: TEST(what_is_expected_when) { CHECK(condition, "what " << was << " seen"); }
#pragma once

#include <sstream>
#include <string>
#include <vector>

namespace rankine::tests {

struct Test {
  const char* name;
  void (*body)();
};

std::vector<Test>& all_tests();
void fail(const char* file, int line, const char* condition, const std::string& what);

struct Registered {
  Registered(const char* name, void (*body)()) { all_tests().push_back({name, body}); }
};

}  // namespace rankine::tests

#define TEST(name)                                              \
  static void name();                                           \
  static const ::rankine::tests::Registered name##_registered(#name, name); \
  static void name()

// The text is put together only where the condition does not hold.
#define CHECK(condition, what)                                                                    \
  do {                                                                                            \
    if (!(condition)) {                                                                           \
      std::ostringstream text;                                                                    \
      text << what;                                                                               \
      ::rankine::tests::fail(__FILE__, __LINE__, #condition, text.str());                         \
    }                                                                                             \
  } while (false)
