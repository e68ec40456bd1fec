// Runs all tests, or those whose names hold the argument; the exit status is 1 where one fails.
#include <chrono>
#include <cstdio>
#include <cstring>

#include "check.h"

namespace rankine::tests {
namespace {

constexpr int kMostShown = 5;  // failures of one test: a wrong kernel has thousands
int failures = 0;

}  // namespace

std::vector<Test>& all_tests() {
  static std::vector<Test> tests;
  return tests;
}

void fail(const char* file, int line, const char* condition, const std::string& what) {
  if (++failures <= kMostShown) std::fprintf(stderr, "  %s:%d: not %s: %s\n", file, line, condition, what.c_str());
}

}  // namespace rankine::tests

int main(int count, char** arguments) {
  using namespace rankine::tests;
  int run = 0, failed = 0;
  for (const Test& test : all_tests()) {
    if (count > 1 && std::strstr(test.name, arguments[1]) == nullptr) continue;
    failures = 0;
    const auto start = std::chrono::steady_clock::now();
    test.body();
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    std::printf("%s %s (%.1f s)\n", failures == 0 ? "passed" : "FAILED", test.name, passed.count());
    std::fflush(stdout);
    if (failures > kMostShown) std::fprintf(stderr, "  and %d more\n", failures - kMostShown);
    ++run;
    failed += failures != 0;
  }
  std::printf("%d tests, %d failed\n", run, failed);
  return run == 0 || failed != 0;
}
