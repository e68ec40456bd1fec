#include "runner.h"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <utility>

namespace rankine::fused {
namespace {

constexpr std::size_t kLine = 64;  // bytes of a cache line
constexpr std::size_t kRequestTile = 16;  // rows: mostly there is one request

std::size_t widest(const Part& part) {
  std::size_t found = 1;
  for (const Source& source : part.sources) found = std::max(found, source.width);
  return found;
}

// Bytes that a row gathers of what is stored of its item, if in halves.
std::size_t gathered_bytes(const Part& part) {
  std::size_t found = 0;
  for (const Source& source : part.sources)
    if (source.origin == Origin::kStored && source.side == Side::kItem) found += source.width * 2;
  return found;
}

// The array of stored values from which most columns are gathered.
std::size_t main_array(const Part& part) {
  std::vector<std::size_t> columns;
  for (const Source& source : part.sources) {
    if (source.origin != Origin::kStored || source.side != Side::kItem) continue;
    if (columns.size() <= source.values) columns.resize(source.values + 1);
    columns[source.values] += source.width;
  }
  const auto most = std::max_element(columns.begin(), columns.end());
  return most == columns.end() ? kNoArray : static_cast<std::size_t>(most - columns.begin());
}

}  // namespace

struct Runner::Lane {
  Lane(const Runner& runner)
      : tile(*runner.candidate_.program, runner.tile_rows_), numbers(std::max(runner.tile_rows_, kRequestTile)),
        scratch(runner.scratch_) {
    if (runner.request_.program != nullptr) request_tile.emplace_back(*runner.request_.program, kRequestTile);
    rows_ahead.reserve(runner.tile_rows_);
  }

  Tile tile;
  std::vector<Tile> request_tile;  // one or none
  std::vector<std::int32_t> numbers;
  std::vector<float> scratch;
  std::vector<float> shared;
  std::vector<const char*> rows_ahead;
  Ahead ahead{};
};

Pool::Pool(std::size_t threads) {
  for (std::size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { wait_for_work(); });
}

Pool::~Pool() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Pool::run(const std::function<void()>& work) {
  const std::unique_lock taken(taken_, std::try_to_lock);
  if (!taken.owns_lock()) return work();
  {
    const std::lock_guard lock(mutex_);
    work_ = &work;
    busy_ = threads_.size();
    ++turn_;
  }
  wake_.notify_all();
  work();
  std::unique_lock lock(mutex_);
  done_.wait(lock, [this] { return busy_ == 0; });
  work_ = nullptr;
}

void Pool::wait_for_work() {
  std::size_t seen = 0;
  for (;;) {
    const std::function<void()>* work = nullptr;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return ending_ || turn_ != seen; });
      if (ending_) return;
      seen = turn_;
      work = work_;
    }
    (*work)();
    const std::lock_guard lock(mutex_);
    if (--busy_ == 0) done_.notify_one();
  }
}

Runner::Runner(Part request, Part candidate, const Kernels& kernels, std::size_t rows, std::size_t threads)
    : request_(std::move(request)), candidate_(std::move(candidate)), kernels_(kernels),
      tile_rows_(rows != 0 ? rows : rankine::fused::tile_rows(*candidate_.program, kernels, gathered_bytes(candidate_))),
      scratch_(std::max(widest(request_), widest(candidate_))), stored_(main_array(candidate_)) {
  if (threads > 1) pool_ = std::make_unique<Pool>(threads - 1);
}

Runner::~Runner() = default;

std::unique_ptr<Runner::Lane> Runner::take() const {
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      auto lane = std::move(free_.back());
      free_.pop_back();
      return lane;
    }
  }
  return std::make_unique<Lane>(*this);
}

void Runner::give(std::unique_ptr<Lane> lane) const {
  const std::lock_guard lock(mutex_);
  free_.push_back(std::move(lane));
}

Outcome Runner::run(const Column* request_columns, std::size_t requests, const Batch& batch, float* out,
                    Profile* profile) const {
  if (profile != nullptr) {
    profile->request.assign(request_.program ? request_.sources.size() + request_.program->operations().size() : 0, 0);
    profile->candidate.assign(candidate_.sources.size() + candidate_.program->operations().size(), 0);
  }
  auto lane = take();
  Batch rows = batch;
  Outcome outcome;
  look_ahead(*lane, batch, 0);
  if (request_.program != nullptr) {
    const std::size_t width = request_.program->tasks();
    if (lane->shared.size() < requests * width) lane->shared.resize(requests * width);
    const Batch each{requests, nullptr, nullptr, request_columns, nullptr, 0, 0};
    for (std::size_t first = 0; first < requests && outcome.row < 0; first += kRequestTile)
      outcome = run_part(request_, lane->request_tile.front(), *lane, each, first,
                         std::min(kRequestTile, requests - first), lane->shared.data() + first * width,
                         profile ? profile->request.data() : nullptr);
    outcome.in_request = true;
    rows.shared = lane->shared.data();
    rows.requests = requests;
    rows.shared_width = width;
  }
  if (outcome.row < 0) outcome = run_rows(*lane, rows, out, profile);
  give(std::move(lane));
  return outcome;
}

Outcome Runner::run_rows(Lane& lane, const Batch& batch, float* out, Profile* profile) const {
  const std::size_t tasks = candidate_.program->tasks();
  const std::size_t tiles = (batch.rows + tile_rows_ - 1) / tile_rows_;
  std::atomic<std::size_t> next{0};
  std::mutex failing;
  Outcome first_failure;
  const auto work = [&](Lane& own) {
    for (std::size_t tile = next++; tile < tiles; tile = next++) {
      const std::size_t first = tile * tile_rows_;
      const std::size_t rows = std::min(tile_rows_, batch.rows - first);
      look_ahead(own, batch, first + tile_rows_);
      const Outcome found = run_part(candidate_, own.tile, own, batch, first, rows, out + first * tasks,
                                     profile ? profile->candidate.data() : nullptr);
      if (found.row < 0) continue;
      const std::lock_guard lock(failing);
      if (first_failure.row < 0 || found.row < first_failure.row) first_failure = found;
      next = tiles;
    }
  };
  if (pool_ == nullptr || tiles < 2 || profile != nullptr) {
    work(lane);
    return first_failure;
  }
  const std::thread::id caller = std::this_thread::get_id();
  const auto share = [&] {
    if (std::this_thread::get_id() == caller) return work(lane);
    if (next.load() >= tiles) return;
    auto own = take();
    work(*own);
    give(std::move(own));
  };
  pool_->run(std::cref(share));  // a function of a reference needs no memory of its own
  return first_failure;
}

void Runner::look_ahead(Lane& lane, const Batch& batch, std::size_t first) const {
  lane.rows_ahead.clear();
  lane.ahead = {};
  if (stored_ == kNoArray || first >= batch.rows) return;
  if (first != 0 && !kernels_.fetches_ahead) return;
  const std::size_t rows = std::min(tile_rows_, batch.rows - first);
  const std::size_t bytes = rows_read(batch.columns[stored_], batch.item_index, first, rows, lane.rows_ahead);
  lane.ahead = {lane.rows_ahead.data(), lane.rows_ahead.size(), bytes / kLine + 1, 0, 0};
}

Outcome Runner::run_part(const Part& part, const Tile& tile, Lane& lane, const Batch& batch, std::size_t first,
                         std::size_t rows, float* out, std::uint64_t* spent) const {
  std::vector<std::int32_t>& numbers = lane.numbers;
  const Program& program = *part.program;
  std::iota(numbers.begin(), numbers.begin() + static_cast<std::ptrdiff_t>(rows), static_cast<std::int32_t>(first));
  Stopwatch watch;
  for (std::size_t i = 0; i < part.sources.size(); ++i) {
    const Source& source = part.sources[i];
    const Input& input = program.inputs()[source.input];
    const std::int64_t bad = fill(source, kernels_, batch, first, rows, input,
                                  tile.at<std::byte>(input.slot, rows), numbers.data(), lane.scratch.data());
    if (bad >= 0) return {false, i, bad + static_cast<std::int64_t>(first)};
    if (spent != nullptr) *spent++ += watch.lap();
  }
  execute(program, kernels_, tile, rows, &lane.ahead, spent);
  const float* logits = tile.at<float>(program.out(), rows);
  const std::size_t tasks = program.tasks();
  for (std::size_t r = 0; r < rows; ++r) std::copy_n(logits + r * (program.out().stride / 4), tasks, out + r * tasks);
  return {};
}

}  // namespace rankine::fused
