#include "bindings.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../array.h"
#include "../table.h"
#include "kernels.h"
#include "peak.h"
#include "program.h"
#include "runner.h"

namespace nb = nanobind;

namespace rankine::fused {
namespace {

constexpr std::int64_t kMostRequests = std::int64_t{1} << 31;  // times a width of 2^24 this does not overflow

[[noreturn]] void fail(const std::string& message) { throw nb::value_error(message.c_str()); }

// A program and the memory that it is read from.
class PyProgram {
 public:
  explicit PyProgram(nb::handle contents)
      : bytes_(std::make_shared<const Array>(contents, "contents", std::initializer_list<Dtype>{Dtype::kUint8}, 1)) {
    try {
      program_ = std::make_unique<const Program>(bytes_->data<const std::byte>(), bytes_->size(0));
    } catch (const std::invalid_argument& error) {
      fail(error.what());
    }
  }

  const Program& program() const { return *program_; }
  nb::list inputs() const {
    nb::list found;
    for (const Input& input : program_->inputs())
      found.append(nb::make_tuple(input.width, input.type == Type::kFloat32 ? "float32" : "uint8"));
    return found;
  }

 private:
  std::shared_ptr<const Array> bytes_;
  std::unique_ptr<const Program> program_;
};

template <class T>
struct Choice {
  const char* name;
  T value;
};

template <class T, std::size_t kCount>
T chosen(const Choice<T> (&choices)[kCount], const std::string& name, const char* what) {
  for (const Choice<T>& choice : choices)
    if (name == choice.name) return choice.value;
  fail(std::string(what) + ": unknown '" + name + "'");
}

constexpr Choice<Origin> kOrigins[] = {{"one", Origin::kOne}, {"bag", Origin::kBag}, {"sequence", Origin::kSequence},
                                       {"dense", Origin::kDense}, {"stored", Origin::kStored}};
constexpr Choice<Side> kSides[] = {{"request", Side::kRequest}, {"item", Side::kItem}, {"pair", Side::kPair}};
constexpr Choice<Pooling> kPoolings[] = {{"sum", Pooling::kSum}, {"mean", Pooling::kMean}, {"max", Pooling::kMax}};

std::size_t number(nb::handle object, const char* name) {
  const auto given = nb::cast<std::int64_t>(object);
  if (given < 0 || given > (std::int64_t{1} << 31)) fail(std::string(name) + ": is out of range");
  return static_cast<std::size_t>(given);
}

// (origin, side, values, table, pooling, length, input, column, width, start, added_start, rounding)
Source source_of(nb::tuple given) {
  if (given.size() != 12) fail("source: must have twelve entries");
  Source source{};
  source.origin = chosen(kOrigins, nb::cast<std::string>(given[0]), "origin");
  source.side = chosen(kSides, nb::cast<std::string>(given[1]), "side");
  source.values = number(given[2], "values");
  if (!given[3].is_none()) source.table = &nb::cast<const Table&>(given[3]).rows();
  if (!given[4].is_none()) source.pooling = chosen(kPoolings, nb::cast<std::string>(given[4]), "pooling");
  source.length = number(given[5], "length");
  source.input = number(given[6], "input");
  source.column = number(given[7], "column");
  source.width = number(given[8], "width");
  source.start = number(given[9], "start");
  source.added = !given[10].is_none();
  if (source.added) source.added_start = number(given[10], "added_start");
  source.rounded = !given[11].is_none();
  if (source.rounded) {
    const auto rounding = nb::cast<nb::tuple>(given[11]);
    const auto step = nb::cast<float>(rounding[0]);
    source.quant = 1.0f / step;
    source.zero = nb::cast<float>(rounding[1]);
    source.lowest = nb::cast<float>(rounding[2]);
    const auto code = [](float value) { return value >= 0 && value <= 255; };
    if (!(step > 0) || !code(source.zero) || !code(source.lowest)) fail("rounding: is out of range");
  }
  return source;
}

std::size_t width_of(const Source& source) {
  const auto dim = std::visit([](const auto& rows) { return rows.dim; }, *source.table);
  return source.origin == Origin::kSequence ? source.length * dim + 1 : dim;
}

// Throws unless the source fits the input and, where it reads what a request computes, that part.
void check(const Source& source, const Program& program, const Program* shared) {
  if (source.input >= program.inputs().size()) fail("source: no such input");
  const Input& input = program.inputs()[source.input];
  if (source.width == 0 || source.column > input.width || source.width > input.width - source.column)
    fail("source: does not lie in its input");
  if (source.rounded != (input.type == Type::kUint8) || (source.rounded && source.origin != Origin::kStored))
    fail("source: does not have the type of its input");
  const bool table = source.origin == Origin::kOne || source.origin == Origin::kBag || source.origin == Origin::kSequence;
  if (table != (source.table != nullptr)) fail("source: a feature of ids needs a table, another has none");
  if (table && width_of(source) != source.width) fail("source: is not as wide as its table");
  if (source.length > (std::size_t{1} << 24)) fail("length: is out of range");
  if (source.origin != Origin::kStored) return;
  const bool of_request = source.side == Side::kRequest;
  if (source.side == Side::kPair || (of_request && source.added)) fail("source: what is stored is of items or requests");
  if (!of_request && !source.added) return;
  const std::size_t start = of_request ? source.start : source.added_start;
  if (shared == nullptr || start > shared->tasks() || source.width > shared->tasks() - start)
    fail("source: reaches past what a request computes");
}

// Arrays of one call, and what the kernels read of them.
class Columns {
 public:
  Columns(const std::vector<Source>& sources, std::size_t count, nb::handle given, const char* part) : columns_(count) {
    const auto list = nb::cast<nb::list>(given);
    if (list.size() != count) fail(std::string(part) + ": must have " + std::to_string(count) + " arrays");
    for (const Source& source : sources) {
      if (source.origin == Origin::kStored && source.side == Side::kRequest) continue;
      Column& column = columns_[source.values];
      if (column.kind == Cells::kNone) column = read(source, list[source.values]);
      if (const char* what = misfit(source, column)) fail("array " + std::to_string(source.values) + " of " + part + ": " + what);
    }
  }

  const Column* data() const { return columns_.data(); }

 private:
  const Array& hold(nb::handle object, std::initializer_list<Dtype> dtypes, int dimensions) {
    return arrays_.emplace_back(object, "array", dtypes, dimensions);
  }

  Column read(const Source& source, nb::handle object) {
    switch (source.origin) {
      case Origin::kOne: return ids(hold(object, {Dtype::kInt32}, 1));
      case Origin::kBag:
      case Origin::kSequence: return lists(nb::cast<nb::tuple>(object), source);
      case Origin::kDense: return rows(hold(object, {Dtype::kFloat32}, 2));
      default: return stored(object);
    }
  }

  static Column ids(const Array& array) {
    Column column;
    column.kind = Cells::kInt32;
    column.cells = array.data<const void>();
    column.count = array.size(0);
    return column;
  }

  Column lists(nb::tuple given, const Source& source) {
    if (given.size() != 3) fail("lists: must be values, offsets and weights");
    Column column = ids(hold(given[0], {Dtype::kInt32}, 1));
    const Array& offsets = hold(given[1], {Dtype::kInt32}, 1);
    if (offsets.size(0) == 0) fail("offsets: must have at least one entry");
    column.offsets = offsets.data<const std::int32_t>();
    column.lists = offsets.size(0) - 1;
    if (given[2].is_none()) return column;
    if (source.origin == Origin::kBag && source.pooling == Pooling::kMax)
      fail("weights: must be None where pooling is 'max'");
    const Array& weights = hold(given[2], {Dtype::kFloat32}, 1);
    weights.require(0, column.count, "one for each entry of values");
    column.weights = weights.data<const float>();
    return column;
  }

  static Column rows(const Array& array) {
    Column column;
    column.kind = array.dtype() == Dtype::kFloat32   ? Cells::kFloat32
                  : array.dtype() == Dtype::kFloat16 ? Cells::kFloat16
                                                     : Cells::kUint8;
    column.cells = array.data<const void>();
    column.count = array.size(0);
    column.dim = array.size(1);
    return column;
  }

  Column stored(nb::handle object) {
    if (!nb::isinstance<nb::tuple>(object)) return rows(hold(object, {Dtype::kFloat32, Dtype::kFloat16}, 2));
    const auto given = nb::cast<nb::tuple>(object);
    if (given.size() != 3) fail("stored: must be rows, scale and bias");
    Column column = rows(hold(given[0], {Dtype::kUint8}, 2));
    const Array& scale = hold(given[1], {Dtype::kFloat32}, 1);
    const Array& bias = hold(given[2], {Dtype::kFloat32}, 1);
    scale.require(0, column.count, "one for each row");
    bias.require(0, column.count, "one for each row");
    column.scale = scale.data<const float>();
    column.bias = bias.data<const float>();
    return column;
  }

  std::vector<Column> columns_;
  std::deque<Array> arrays_;
};

std::size_t arrays_of(const std::vector<Source>& sources) {
  std::size_t count = 0;
  for (const Source& source : sources)
    if (source.origin != Origin::kStored || source.side != Side::kRequest) count = std::max(count, source.values + 1);
  return count;
}

class PyRunner {
 public:
  PyRunner(nb::object request, nb::list request_sources, nb::object candidate, nb::list candidate_sources,
           std::int64_t rows, std::int64_t threads, const std::string& instruction_set)
      : keep_(nb::make_tuple(request, nb::tuple(request_sources), candidate, nb::tuple(candidate_sources))) {
    const Kernels* kernels = kernels_named(instruction_set.c_str());
    if (kernels == nullptr) fail("instruction_set: this processor does not have '" + instruction_set + "'");
    if (rows < 0 || rows > 65'536) fail("rows: must be from 0 to 65536");
    if (threads < 1 || threads > 1024) fail("threads: must be from 1 to 1024");
    const Program* shared = request.is_none() ? nullptr : &nb::cast<const PyProgram&>(request).program();
    Part early{shared, {}};
    if (shared != nullptr) early.sources = sources_of(request_sources, *shared, nullptr);
    const Program& program = nb::cast<const PyProgram&>(candidate).program();
    Part late{&program, sources_of(candidate_sources, program, shared)};
    for (const Source& source : early.sources)
      if (source.side != Side::kRequest) fail("source: a request's part reads the request only");
    request_arrays_ = arrays_of(early.sources);
    arrays_ = arrays_of(late.sources);
    runner_ = std::make_unique<const Runner>(std::move(early), std::move(late), *kernels, static_cast<std::size_t>(rows),
                                             static_cast<std::size_t>(threads));
  }

  nb::object run(nb::handle request_arrays, std::int64_t requests, nb::handle arrays, nb::handle request_index,
                 nb::handle item_index, nb::handle out) const {
    return run_with(request_arrays, requests, arrays, request_index, item_index, out, nullptr);
  }

  nb::object profile(nb::handle request_arrays, std::int64_t requests, nb::handle arrays, nb::handle request_index,
                     nb::handle item_index, nb::handle out) const {
    Profile profile;
    run_with(request_arrays, requests, arrays, request_index, item_index, out, &profile);
    return nb::make_tuple(nb::cast(profile.request), nb::cast(profile.candidate));
  }

  // Nanoseconds of `repeats` calls one after the other, without Python between them.
  nb::object timed(nb::handle request_arrays, std::int64_t requests, nb::handle arrays, nb::handle request_index,
                   nb::handle item_index, nb::handle out, std::int64_t repeats) const {
    if (repeats < 1 || repeats > 1'000'000) fail("repeats: must be from 1 to 1000000");
    std::vector<std::uint64_t> spent(static_cast<std::size_t>(repeats));
    run_with(request_arrays, requests, arrays, request_index, item_index, out, nullptr, &spent);
    return nb::cast(spent);
  }

  std::size_t tile_rows() const { return runner_->tile_rows(); }
  const char* instruction_set() const { return runner_->kernels().name; }

 private:
  nb::object run_with(nb::handle request_arrays, std::int64_t requests, nb::handle arrays, nb::handle request_index,
                      nb::handle item_index, nb::handle out, Profile* profile,
                      std::vector<std::uint64_t>* spent = nullptr) const {
    const Columns early(runner_->request().sources, request_arrays_, request_arrays, "request");
    const Columns late(runner_->candidate().sources, arrays_, arrays, "candidate");
    const Array logits(out, "out", {Dtype::kFloat32}, 2, true);
    const Array request_rows(request_index, "request_index", {Dtype::kInt32}, 1);
    const Array item_rows(item_index, "item_index", {Dtype::kInt32}, 1);
    const std::size_t rows = logits.size(0);
    request_rows.require(0, rows, "one for each row of out");
    item_rows.require(0, rows, "one for each row of out");
    logits.require(1, runner_->candidate().program->tasks(), "one for each task");
    if (requests < 0 || requests > kMostRequests) fail("requests: is out of range");
    const Batch batch{rows, request_rows.data<const std::int32_t>(), item_rows.data<const std::int32_t>(), late.data(),
                      nullptr, 0, 0};
    Outcome outcome;
    {
      nb::gil_scoped_release released;
      const auto call = [&] {
        return runner_->run(early.data(), static_cast<std::size_t>(requests), batch, logits.data<float>(), profile);
      };
      if (spent == nullptr) {
        outcome = call();
      } else {
        Stopwatch watch;
        for (std::uint64_t& one : *spent) {
          outcome = call();
          one = watch.lap();
        }
      }
    }
    if (outcome.row < 0) return nb::none();
    return nb::make_tuple(outcome.in_request, outcome.source, outcome.row);
  }

  static std::vector<Source> sources_of(nb::list given, const Program& program, const Program* shared) {
    std::vector<Source> found;
    std::vector<std::size_t> filled(program.inputs().size());
    for (nb::handle one : given) {
      found.push_back(source_of(nb::cast<nb::tuple>(one)));
      if (found.back().values > 65'536) fail("values: is out of range");
      check(found.back(), program, shared);
      filled[found.back().input] += found.back().width;
    }
    for (std::size_t i = 0; i < filled.size(); ++i)
      if (filled[i] != program.inputs()[i].width) fail("source: input " + std::to_string(i) + " is not filled");
    return found;
  }

  nb::object keep_;  // programs and tables; tuples, which nobody can empty meanwhile
  std::size_t request_arrays_ = 0;
  std::size_t arrays_ = 0;
  std::unique_ptr<const Runner> runner_;
};

std::vector<std::string> instruction_sets() {
  std::vector<std::string> found;
  for (const char* name : {"amx", "avx512", "avx2", "portable"})
    if (kernels_named(name) != nullptr) found.emplace_back(name);
  return found;
}

nb::object peak() {
  Peak found;
  {
    nb::gil_scoped_release released;
    found = int8_peak();
  }
  if (found.instruction == nullptr) return nb::none();
  return nb::make_tuple(found.instruction, found.operations_per_s);
}

}  // namespace

void add_engine(nb::module_& module) {
  using namespace nb::literals;
  nb::class_<PyProgram>(module, "Program", nb::is_final())
      .def(nb::init<nb::handle>(), "contents"_a)
      .def_prop_ro("inputs", &PyProgram::inputs)
      .def_prop_ro("tasks", [](const PyProgram& self) { return self.program().tasks(); })
      .def_prop_ro("row_bytes", [](const PyProgram& self) { return self.program().row_bytes(); })
      .def_prop_ro("weight_bytes", [](const PyProgram& self) { return self.program().weight_bytes(); });
  nb::class_<PyRunner>(module, "FusedRunner", nb::is_final())
      .def(nb::init<nb::object, nb::list, nb::object, nb::list, std::int64_t, std::int64_t, const std::string&>(),
           "request"_a.none(), "request_sources"_a, "candidate"_a, "candidate_sources"_a, "rows"_a, "threads"_a,
           "instruction_set"_a)
      .def("run", &PyRunner::run, "request_arrays"_a, "requests"_a, "arrays"_a, "request_index"_a, "item_index"_a,
           "out"_a)
      .def("profile", &PyRunner::profile, "request_arrays"_a, "requests"_a, "arrays"_a, "request_index"_a,
           "item_index"_a, "out"_a)
      .def("timed", &PyRunner::timed, "request_arrays"_a, "requests"_a, "arrays"_a, "request_index"_a, "item_index"_a,
           "out"_a, "repeats"_a)
      .def_prop_ro("tile_rows", &PyRunner::tile_rows)
      .def_prop_ro("instruction_set", &PyRunner::instruction_set);
  module.def("instruction_sets", &instruction_sets);
  module.def("int8_peak", &peak);
}

}  // namespace rankine::fused
