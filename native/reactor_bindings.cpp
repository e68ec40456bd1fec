#include "reactor_bindings.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "plain_request.h"
#include "reactor.h"

namespace nb = nanobind;

namespace rankine {
namespace {

std::string_view view_of(const nb::bytes& text) { return {text.c_str(), text.size()}; }

nb::bytes bytes_of(std::string_view text) { return nb::bytes(text.data(), text.size()); }

std::vector<std::string> strings_of(const nb::sequence& texts) {
  std::vector<std::string> found;
  for (nb::handle text : texts) found.emplace_back(view_of(nb::cast<nb::bytes>(text)));
  return found;
}

template <class Fields>
nb::dict dict_of(const Fields& fields) {
  nb::dict found;
  for (const auto& [name, value] : fields) found[bytes_of(name)] = bytes_of(value);
  return found;
}

nb::object py_read_plain_request(const nb::bytes& data, const nb::sequence& lines, std::size_t most_head) {
  static thread_local PlainRequest request;  // its fields keep their memory
  if (!read_plain_request(view_of(data), strings_of(lines), most_head, request)) return nb::none();
  return nb::make_tuple(request.line, dict_of(request.fields), request.head_bytes);
}

nb::list py_read(Reactor& reactor, std::size_t most) {
  nb::list found;
  for (const Came& one : reactor.read(most)) {
    if (one.plain) {
      found.append(nb::make_tuple(one.key, bytes_of(one.data), one.line, dict_of(one.fields), one.head_bytes,
                                  one.waited_s));
    } else {
      found.append(nb::make_tuple(one.key, bytes_of(one.data)));
    }
  }
  return found;
}

using Bound = std::tuple<double, double, double, std::size_t, double, std::size_t>;

void py_refuse(Reactor& reactor, const std::vector<Bound>& refused, const nb::sequence& parts, double until_s) {
  std::vector<Refused> bounds;
  for (const auto& [from_s, due_s, left_s, rows, waited_s, kind] : refused)
    bounds.push_back({from_s, due_s, left_s, rows, waited_s, kind});
  reactor.refuse(std::move(bounds), {strings_of(parts), until_s});
}

nb::tuple py_take_refused(Reactor& reactor) {
  std::size_t rows = 0;
  nb::list found;
  for (const auto& [kind, waited_s, key] : reactor.take_refused(rows))
    found.append(nb::make_tuple(kind, waited_s, key));
  return nb::make_tuple(found, rows);
}

}  // namespace

void add_reactor(nb::module_& module) {
  using namespace nb::literals;
  module.def("read_plain_request", &py_read_plain_request, "data"_a, "lines"_a, "most_head"_a);
  nb::class_<Reactor>(module, "Reactor", nb::is_final())
      .def("__init__",
           [](Reactor* self, const nb::sequence& lines, std::size_t most_head, std::size_t most_body,
              std::size_t most_rows, double budget_s, double most_wait_s, const nb::bytes& id_prefix,
              std::size_t id_digits) {
             new (self) Reactor({strings_of(lines), most_head, most_body, most_rows, budget_s, most_wait_s,
                                 std::string(view_of(id_prefix)), id_digits});
           },
           "lines"_a, nb::kw_only(), "most_head"_a, "most_body"_a, "most_rows"_a, "budget_s"_a, "most_wait_s"_a,
           "id_prefix"_a, "id_digits"_a)
      .def_prop_ro("descriptor", &Reactor::descriptor)
      .def("add", &Reactor::add, "socket"_a, "key"_a)
      .def("remove", &Reactor::remove, "key"_a)
      .def("ready", &Reactor::ready, "key"_a)
      .def("read", &py_read, "most"_a)
      .def("refuse", &py_refuse, "refused"_a, "parts"_a, "until_s"_a)
      .def("take_refused", &py_take_refused)
      .def("send", [](Reactor& self, std::uint64_t key, const nb::bytes& data) { return self.send(key, view_of(data)); },
           "key"_a, "data"_a);
}

}  // namespace rankine
