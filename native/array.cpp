#include "array.h"

#include <algorithm>
#include <optional>

namespace nb = nanobind;

namespace rankine {
namespace {

const char* name_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat32: return "float32";
    case Dtype::kFloat16: return "float16";
    case Dtype::kUint8: return "uint8";
    case Dtype::kInt32: return "int32";
    case Dtype::kInt64: return "int64";
  }
  return "?";
}

// The dtype of a buffer, none if no kernel knows it.  Formats of the struct module; a foreign byte order has a prefix.
std::optional<Dtype> dtype_of(const Py_buffer& view) {
  const std::string format = view.format ? view.format : "B";
  if (format == "f") return Dtype::kFloat32;
  if (format == "e") return Dtype::kFloat16;
  if (format == "B") return Dtype::kUint8;
  if (format == "i" || format == "l" || format == "q") {  // "l" has 4 or 8 bytes, as the platform likes
    if (view.itemsize == 4) return Dtype::kInt32;
    if (view.itemsize == 8) return Dtype::kInt64;
  }
  return std::nullopt;
}

std::string describe(const Py_buffer& view) {
  if (const auto known = dtype_of(view)) return name_of(*known);
  const std::string format = view.format ? view.format : "B";
  if (format == "d") return "float64";
  if (format == "b") return "int8";
  if (format == "?") return "bool";
  return "format '" + format + "'";
}

[[noreturn]] void fail_type(const std::string& message) { throw nb::type_error(message.c_str()); }
[[noreturn]] void fail_value(const std::string& message) { throw nb::value_error(message.c_str()); }

}  // namespace

Array::Array(nb::handle object, const char* name, std::initializer_list<Dtype> dtypes, int dimensions, bool writable)
    : name_(name) {
  if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_RECORDS_RO) != 0) {
    PyErr_Clear();
    fail_type(name_ + ": must be a NumPy array, got " + nb::type_name(object.type()).c_str());
  }
  try {
    check(dtypes, dimensions, writable);
  } catch (...) {
    PyBuffer_Release(&view_);  // a constructor that throws runs no destructor
    throw;
  }
}

Array::~Array() { PyBuffer_Release(&view_); }

void Array::check(std::initializer_list<Dtype> dtypes, int dimensions, bool writable) {
  const auto found = dtype_of(view_);
  if (!found || std::find(dtypes.begin(), dtypes.end(), *found) == dtypes.end()) {
    std::string allowed;
    for (const Dtype dtype : dtypes) allowed += (allowed.empty() ? "" : " or ") + std::string(name_of(dtype));
    fail_type(name_ + ": dtype must be " + allowed + ", got " + describe(view_));
  }
  dtype_ = *found;
  if (view_.ndim != dimensions)
    fail_value(name_ + ": must have " + std::to_string(dimensions) + " dimension(s), got " + std::to_string(view_.ndim));
  if (!PyBuffer_IsContiguous(&view_, 'C')) fail_value(name_ + ": must be C-contiguous");
  if (writable && view_.readonly) fail_value(name_ + ": must be writable");
}

void Array::require(int axis, std::size_t expected, const char* what) const {
  if (size(axis) == expected) return;
  fail_value(name_ + ": axis " + std::to_string(axis) + " must have size " + std::to_string(expected) + " (" + what +
             "), got " + std::to_string(size(axis)));
}

}  // namespace rankine
