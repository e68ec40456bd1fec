// Writes the example programs into a folder: what the fuzzer begins with.
#include <fstream>
#include <iostream>

#include "programs.h"

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "usage: write_seeds FOLDER\n";
    return 2;
  }
  int number = 0;
  for (const auto& file : rankine::tests::example_programs()) {
    const auto bytes = file.bytes();
    std::ofstream out(std::string(arguments[1]) + "/example-" + std::to_string(number++), std::ios::binary);
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (!out.flush()) {
      std::cerr << "error: cannot write to " << arguments[1] << "\n";
      return 1;
    }
  }
}
