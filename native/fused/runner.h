// A model as it is called: what is computed once a request, then what is computed of every row, tile by tile.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "execute.h"
#include "sources.h"

namespace rankine::fused {

// One program with what fills its inputs.
struct Part {
  const Program* program;
  std::vector<Source> sources;
};

constexpr std::size_t kNoArray = static_cast<std::size_t>(-1);

// What a call could not do: the source whose array does not fit, or the row that is out of range in it.
struct Outcome {
  bool in_request = false;   // which part's source
  std::size_t source = 0;
  std::int64_t row = -1;     // of the requests or of the batch; -1: all is well
};

// Nanoseconds of a call: of each source and then of each operation, of the request's part and of the candidate's.
struct Profile {
  std::vector<std::uint64_t> request;
  std::vector<std::uint64_t> candidate;
};

// Threads that wait for work.  The one that calls works too.
class Pool {
 public:
  explicit Pool(std::size_t threads);  // beside the caller's
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Calls work() on every thread that is free, and on this one; returns when all have returned.  One call at a time
  // has the threads: another runs alone.
  void run(const std::function<void()>& work);
  std::size_t threads() const { return threads_.size() + 1; }

 private:
  void wait_for_work();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  std::mutex taken_;
  const std::function<void()>* work_ = nullptr;
  std::size_t turn_ = 0;
  std::size_t busy_ = 0;
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

// Thread-safe: a call has a lane of its own, of which there are as many as there were calls at one moment; nothing is
// allocated once the lanes have grown.
class Runner {
 public:
  // request: its program is nullptr where nothing is computed once a request.  `rows`: of a tile; 0: by the program.
  Runner(Part request, Part candidate, const Kernels& kernels, std::size_t rows, std::size_t threads);
  ~Runner();

  const Part& request() const { return request_; }
  const Part& candidate() const { return candidate_; }
  const Kernels& kernels() const { return kernels_; }
  std::size_t tile_rows() const { return tile_rows_; }

  // out: (rows, tasks).  `requests`: how many there are in request_columns; `shared` is given instead where the
  // candidate's sources read what was computed elsewhere.  Arrays have been held to their sources (misfit).
  Outcome run(const Column* request_columns, std::size_t requests, const Batch& batch, float* out,
              Profile* profile = nullptr) const;

 private:
  struct Lane;

  std::unique_ptr<Lane> take() const;
  void give(std::unique_ptr<Lane> lane) const;
  Outcome run_part(const Part& part, const Tile& tile, Lane& lane, const Batch& batch, std::size_t first,
                   std::size_t rows, float* out, std::uint64_t* spent) const;
  // Lets the layers that run next fetch what is stored of the items of these rows.
  void look_ahead(Lane& lane, const Batch& batch, std::size_t first) const;
  Outcome run_rows(Lane& lane, const Batch& batch, float* out, Profile* profile) const;

  Part request_;
  Part candidate_;
  const Kernels& kernels_;
  std::size_t tile_rows_;
  std::size_t scratch_;
  std::size_t stored_;  // number of the widest array of what is stored of items; kNoArray: there is none
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Lane>> free_;
  std::unique_ptr<Pool> pool_;
};

}  // namespace rankine::fused
