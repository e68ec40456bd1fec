// A checked view of an argument: dtype, number of dimensions, C order, writability; errors name the argument.
//
// By the buffer protocol and not by DLPack: NumPy refuses to export a read-only array (a table mapped from a file) in
// the unversioned form of DLPack that nanobind asks for first, which costs a raised exception on every call; and half
// floats need no scalar type here.  Nothing is ever copied or converted.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace rankine {

enum class Dtype { kFloat32, kFloat16, kUint8, kInt32, kInt64 };

// Must be made and destroyed with the GIL held; the memory may be read without it.
class Array {
 public:
  // Throws TypeError for what is no array or of another dtype, ValueError for another shape, order or a read-only one.
  Array(nanobind::handle object, const char* name, std::initializer_list<Dtype> dtypes, int dimensions,
        bool writable = false);
  ~Array();
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  Dtype dtype() const { return dtype_; }
  std::size_t size(int axis) const { return static_cast<std::size_t>(view_.shape[axis]); }
  const std::string& name() const { return name_; }

  template <class T>
  T* data() const {
    return static_cast<T*>(view_.buf);
  }

  // Throws ValueError unless the axis has that size; `what` says where the size comes from.
  void require(int axis, std::size_t expected, const char* what) const;

 private:
  void check(std::initializer_list<Dtype> dtypes, int dimensions, bool writable);

  std::string name_;
  Py_buffer view_{};
  Dtype dtype_{};
};

}  // namespace rankine
