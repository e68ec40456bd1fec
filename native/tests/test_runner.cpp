// The runner: every kind of source, in tiles of any size, by one thread or many, without allocations once it is warm.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "allocations.h"
#include "check.h"
#include "fused/runner.h"
#include "guarded.h"
#include "packed.h"
#include "programs.h"
#include "random.h"

namespace rankine::tests {
namespace {

using namespace fused;

constexpr std::size_t kRows = 90, kRequests = 20, kItems = 31, kVocabulary = 11, kTasks = 2, kLength = 3, kDim = 4;
constexpr std::uint32_t kShared = 6;  // columns that a request computes

// A layer of every input, added up.
ProgramFile sums_of(const std::vector<std::pair<Type, std::uint32_t>>& widths, std::uint32_t columns) {
  ProgramFile file("sums");
  for (const auto& [type, width] : widths) file.input(type, width);
  const std::size_t padded = round_up(columns, kLanes);
  std::uint32_t sum = kNone;
  for (std::uint32_t i = 0; i < widths.size(); ++i) {
    const auto [type, width] = widths[i];
    const std::uint32_t made = file.buffer(Type::kFloat32, columns);
    OperationRecord& op = file.add(type == Type::kUint8 ? Code::kLinearInt8 : Code::kLinearFloat32);
    op.x[0] = {made, 0};
    op.x[2] = {i, 0};
    if (sum != kNone) op.x[3] = {sum, 0};
    op.d[0] = width, op.d[1] = columns;
    Random random(i + 1);
    if (type == Type::kUint8) {
      std::vector<std::int8_t> weights(width * columns);
      for (auto& weight : weights) weight = static_cast<std::int8_t>(random.below(256));
      op.c[0] = file.constant(packed(weights, width, columns));
      op.c[2] = file.constant(std::vector<std::int32_t>(padded));
      op.c[5] = file.constant(std::vector<float>(padded, 1e-3f));
    } else {
      op.c[0] = file.constant(packed(random.floats(width * columns, -1, 1), width, columns));
    }
    sum = made;
  }
  file.out = {sum, 0};
  file.tasks = columns;
  return file;
}

// An array of a call in guarded memory.
template <class T>
struct Held {
  Guarded memory;
  T* data;
  Held(const std::vector<T>& values, Edge edge)
      : memory(values.size() * sizeof(T)), data(memory.copy(values.data(), values.size(), edge)) {}
};

std::vector<std::int32_t> ids(std::uint32_t seed, std::size_t count, std::size_t limit) {
  Random random(seed);
  std::vector<std::int32_t> found(count);
  for (auto& id : found) id = static_cast<std::int32_t>(random.below(limit));
  return found;
}

template <class T>
std::vector<T> integers(std::uint32_t seed, std::size_t count, std::size_t limit) {
  const auto numbers = ids(seed, count, limit);
  return {numbers.begin(), numbers.end()};
}

std::vector<std::int32_t> sorted(std::vector<std::int32_t> values) {
  std::sort(values.begin(), values.end());
  return values;
}

// Lists of one to three values, one after the other.
std::vector<std::int32_t> offsets_of(std::size_t lists) {
  std::vector<std::int32_t> found{0};
  for (std::size_t i = 0; i < lists; ++i) found.push_back(found.back() + 1 + static_cast<std::int32_t>(i % 3));
  return found;
}

// Numbers of the candidate's sources.
enum : std::size_t { kOne, kBag, kSequence, kDense, kHalf, kByte, kFloat, kOfRequest, kSources };

// A model in two parts with every kind of source, and what a call of it reads.
struct Model {
  explicit Model(Edge edge)
      : request_bytes(sums_of({{Type::kFloat32, 5}, {Type::kFloat32, kDim}}, kShared).bytes()),
        candidate_bytes(sums_of({{Type::kFloat32, kDim}, {Type::kFloat32, kDim}, {Type::kFloat32, kLength * kDim + 1},
                                 {Type::kFloat32, 5}, {Type::kFloat32, kShared}, {Type::kUint8, kShared},
                                 {Type::kFloat32, 9}, {Type::kFloat32, kShared}}, kTasks).bytes()),
        request_program(request_bytes.data(), request_bytes.size()),
        candidate_program(candidate_bytes.data(), candidate_bytes.size()),
        cells(Random(1).floats(kVocabulary * kDim, -1, 1), edge),
        request_index(sorted(ids(2, kRows, kRequests)), edge), item_index(ids(3, kRows, kItems), edge),
        item_ids(ids(4, kItems, kVocabulary), edge), request_ids(ids(5, kRequests, kVocabulary), edge),
        pair_values(ids(6, static_cast<std::size_t>(offsets_of(kRows).back()), kVocabulary), edge),
        pair_offsets(offsets_of(kRows), edge),
        request_values(ids(7, static_cast<std::size_t>(offsets_of(kRequests).back()), kVocabulary), edge),
        request_offsets(offsets_of(kRequests), edge), request_dense(Random(8).floats(kRequests * 5, -1, 1), edge),
        pair_dense(Random(9).floats(kRows * 5, -1, 1), edge),
        halves(integers<std::uint16_t>(10, kItems * (kShared + 2), 0x3C00), edge),
        bytes(integers<std::uint8_t>(11, kItems * kShared, 256), edge), scale(std::vector<float>(kItems, 0.01f), edge),
        bias(std::vector<float>(kItems, -1.2f), edge), floats(Random(12).floats(kItems * 9, -1, 1), edge),
        table(AnyRows{Form::kFloat32, cells.data, nullptr, nullptr, kVocabulary, kDim}) {
    request_columns[0] = rows_of(Cells::kFloat32, request_dense.data, kRequests, 5);
    request_columns[1] = rows_of(Cells::kInt32, request_ids.data, kRequests, 1);
    columns[kOne] = rows_of(Cells::kInt32, item_ids.data, kItems, 1);
    columns[kBag] = lists_of(pair_values.data, pair_offsets.data, kRows);
    columns[kSequence] = lists_of(request_values.data, request_offsets.data, kRequests);
    columns[kDense] = rows_of(Cells::kFloat32, pair_dense.data, kRows, 5);
    columns[kHalf] = rows_of(Cells::kFloat16, halves.data, kItems, kShared + 2);
    columns[kByte] = rows_of(Cells::kUint8, bytes.data, kItems, kShared);
    columns[kByte].scale = scale.data;
    columns[kByte].bias = bias.data;
    columns[kFloat] = rows_of(Cells::kFloat32, floats.data, kItems, 9);
  }

  static Column rows_of(Cells kind, const void* cells, std::size_t count, std::size_t dim) {
    Column column;
    column.kind = kind, column.cells = cells, column.count = count, column.dim = dim;
    return column;
  }
  static Column lists_of(const std::int32_t* values, const std::int32_t* offsets, std::size_t lists) {
    Column column = rows_of(Cells::kInt32, values, static_cast<std::size_t>(offsets[lists]), 1);
    column.offsets = offsets, column.lists = lists;
    return column;
  }

  // One source for each input, of the same number; their arrays too.
  Source source(Origin origin, Side side, std::size_t number, std::size_t width) const {
    Source found{};
    found.origin = origin, found.side = side, found.values = found.input = number, found.width = width;
    const bool of_ids = origin == Origin::kOne || origin == Origin::kBag || origin == Origin::kSequence;
    if (of_ids) found.table = &table;
    found.length = kLength;
    return found;
  }

  Runner runner(const Kernels& kernels, std::size_t tile_rows, std::size_t threads) const {
    Part request{&request_program, {source(Origin::kDense, Side::kRequest, 0, 5), source(Origin::kOne, Side::kRequest, 1, kDim)}};
    Part candidate{&candidate_program,
                   {source(Origin::kOne, Side::kItem, kOne, kDim), source(Origin::kBag, Side::kPair, kBag, kDim),
                    source(Origin::kSequence, Side::kRequest, kSequence, kLength * kDim + 1),
                    source(Origin::kDense, Side::kPair, kDense, 5), source(Origin::kStored, Side::kItem, kHalf, kShared),
                    source(Origin::kStored, Side::kItem, kByte, kShared), source(Origin::kStored, Side::kItem, kFloat, 9),
                    source(Origin::kStored, Side::kRequest, kOfRequest, kShared)}};
    candidate.sources[kHalf].start = 2;
    candidate.sources[kHalf].added = candidate.sources[kByte].added = true;
    Source& codes = candidate.sources[kByte];
    codes.rounded = true, codes.quant = 40, codes.zero = 128, codes.lowest = 0;
    return Runner(std::move(request), std::move(candidate), kernels, tile_rows, threads);
  }

  Batch batch() const { return {kRows, request_index.data, item_index.data, columns, nullptr, 0, 0}; }
  Outcome run(const Runner& runner, float* out) const { return runner.run(request_columns, kRequests, batch(), out); }
  std::vector<float> logits(const Runner& runner) const {
    std::vector<float> found(kRows * kTasks, -99.0f);
    const Outcome outcome = run(runner, found.data());
    CHECK(outcome.row == -1, "source " << outcome.source << " refuses row " << outcome.row);
    return found;
  }

  std::vector<std::byte> request_bytes, candidate_bytes;
  Program request_program, candidate_program;
  Held<float> cells;
  Held<std::int32_t> request_index, item_index, item_ids, request_ids, pair_values, pair_offsets, request_values, request_offsets;
  Held<float> request_dense, pair_dense;
  Held<std::uint16_t> halves;
  Held<std::uint8_t> bytes;
  Held<float> scale, bias, floats;
  TableRows table;
  Column request_columns[2], columns[kSources];
};

// What a change of one number in the arrays leads to; the number is put back.
void check_refused(Model& model, const Runner& runner, std::int32_t* number, std::int32_t lie, bool in_request,
                   std::size_t source, std::int64_t row) {
  const std::int32_t truth = std::exchange(*number, lie);
  std::vector<float> out(kRows * kTasks);
  const Outcome found = model.run(runner, out.data());
  CHECK(found.in_request == in_request && found.source == source && found.row == row,
        lie << " in source " << source << ": source " << found.source << (found.in_request ? " of the request" : "")
            << ", row " << found.row << " and not " << row);
  *number = truth;
}

// The first row of the batch with that index.
std::int64_t first_row(const std::int32_t* index, std::int32_t value) { return std::find(index, index + kRows, value) - index; }

}  // namespace

TEST(runners_give_the_same_to_the_bit_when_tiles_and_threads_vary) {
  for (Edge edge : kEdges) {
    const Model model(edge);
    for (const Kernels* kernels : all_kernels()) {
      const auto expected = model.logits(model.runner(*kernels, 1, 1));
      for (std::size_t tile_rows : {0, 2, 7, 24, 89, 90, 200})
        for (std::size_t threads : {1, 2, 4})
          CHECK(model.logits(model.runner(*kernels, tile_rows, threads)) == expected,
                kernels->name << ", tiles of " << tile_rows << ", " << threads << " threads");
    }
  }
}

TEST(runners_give_the_same_on_every_instruction_set) {
  const Model model(Edge::kEnd);
  const auto expected = model.logits(model.runner(portable_kernels(), 0, 1));
  for (const Kernels* kernels : all_kernels()) {
    const auto found = model.logits(model.runner(*kernels, 0, 1));
    for (std::size_t i = 0; i < found.size(); ++i)
      CHECK(std::fabs(found[i] - expected[i]) < 1e-5f, kernels->name << ": " << found[i] << " is not " << expected[i]);
  }
}

TEST(runners_are_right_when_many_threads_call_at_once) {
  const Model model(Edge::kEnd);
  for (std::size_t pool : {1, 3}) {
    const Runner runner = model.runner(*all_kernels().front(), 8, pool);
    const auto expected = model.logits(runner);
    std::vector<std::thread> threads;
    std::atomic<int> wrong{0};
    for (int i = 0; i < 6; ++i)
      threads.emplace_back([&] {
        std::vector<float> out(kRows * kTasks);
        for (int turn = 0; turn < 50; ++turn) {
          std::fill(out.begin(), out.end(), -99.0f);
          wrong += model.run(runner, out.data()).row != -1 || out != expected;
        }
      });
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == 0, wrong << " calls are wrong with a pool of " << pool);
  }
}

TEST(rows_are_refused_when_an_id_or_an_index_is_out_of_range) {
  Model model(Edge::kEnd);
  constexpr std::int32_t kLeast = std::numeric_limits<std::int32_t>::min(), kMost = std::numeric_limits<std::int32_t>::max();
  for (std::size_t threads : {1, 3}) {
    const Runner runner = model.runner(*all_kernels().front(), 8, threads);
    const std::int32_t item = model.item_index.data[60], request = model.request_index.data[60];
    const std::int64_t of_item = first_row(model.item_index.data, item), of_request = first_row(model.request_index.data, request);
    for (std::int32_t lie : {-1, kLeast, kMost, static_cast<std::int32_t>(kVocabulary)}) {
      check_refused(model, runner, &model.item_ids.data[item], lie, false, kOne, of_item);
      check_refused(model, runner, &model.pair_values.data[model.pair_offsets.data[60]], lie, false, kBag, 60);
      check_refused(model, runner, &model.request_values.data[model.request_offsets.data[request]], lie, false, kSequence, of_request);
      check_refused(model, runner, &model.request_ids.data[17], lie, true, 1, 17);
    }
    for (std::int32_t lie : {-1, kLeast, kMost, static_cast<std::int32_t>(kItems)})
      check_refused(model, runner, &model.item_index.data[60], lie, false, kOne, 60);
    for (std::int32_t lie : {-1, kLeast, kMost, static_cast<std::int32_t>(kRequests)})
      check_refused(model, runner, &model.request_index.data[60], lie, false, kSequence, 60);
    for (std::int32_t lie : {-1, kLeast, kMost}) check_refused(model, runner, &model.pair_offsets.data[60], lie, false, kBag, lie > 0 ? 59 : 59);
    CHECK(model.logits(runner).front() != -99.0f, "a runner that has refused does not run again");
  }
}

TEST(rows_are_refused_by_what_is_stored_when_their_index_is_out_of_range) {
  Model model(Edge::kEnd);
  // Alone: no other source looks at the index before.
  const auto bytes = sums_of({{Type::kFloat32, 9}}, kTasks).bytes();
  const Program program(bytes.data(), bytes.size());
  Source source = model.source(Origin::kStored, fused::Side::kItem, kFloat, 9);
  source.input = 0;
  const Runner runner({nullptr, {}}, {&program, {source}}, *all_kernels().front(), 8, 1);
  std::vector<float> out(kRows * kTasks);
  for (std::int32_t lie : {-1, static_cast<std::int32_t>(kItems), std::numeric_limits<std::int32_t>::max()})
    for (std::size_t row : {std::size_t{0}, std::size_t{63}, kRows - 1}) {
      const std::int32_t truth = std::exchange(model.item_index.data[row], lie);
      const Outcome found = runner.run(nullptr, 0, model.batch(), out.data());
      CHECK(found.row == static_cast<std::int64_t>(row), lie << ": row " << found.row);
      model.item_index.data[row] = truth;
    }
}

TEST(runners_do_nothing_when_there_are_no_requests_and_no_rows) {
  const Model model(Edge::kEnd);
  const Runner runner = model.runner(*all_kernels().front(), 8, 1);
  Batch batch = model.batch();
  batch.rows = 0;
  CHECK(runner.run(model.request_columns, 0, batch, nullptr).row == -1, "no rows are refused");
  batch.rows = 3;
  std::vector<float> out(3 * kTasks);
  CHECK(runner.run(model.request_columns, 0, batch, out.data()).row == 0, "rows of no request are computed");
}

TEST(calls_allocate_nothing_when_the_runner_is_warm) {
  const Model model(Edge::kEnd);
  std::vector<float> out(kRows * kTasks);
  for (std::size_t threads : {1, 3}) {
    const Runner runner = model.runner(*all_kernels().front(), 4, threads);
    // Which threads of a pool take part differs from call to call: it is warm once each has had a lane.
    std::size_t made = 1;
    for (int attempt = 0; attempt < 100 && made != 0; ++attempt) {
      const std::size_t before = allocations();
      for (int turn = 0; turn < 50; ++turn) model.run(runner, out.data());
      made = allocations() - before;
    }
    CHECK(made == 0, made << " allocations in 50 calls with " << threads << " threads");
  }
}

}  // namespace rankine::tests
