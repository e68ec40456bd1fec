#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "plain_request.h"

namespace rankine {

// Who is refused without a question: whoever is due from `from_s` to `due_s` and has no more left than `left_s`, has at
// least so many rows, and has waited so long. `kind` is the caller's.
struct Refused {
  double from_s = 0.0, due_s = 0.0, left_s = 0.0;
  std::size_t rows = 0;
  double waited_s = 0.0;
  std::size_t kind = 0;
};

// A request that was refused here: by which kind, how long it had waited, and on which connection.
struct Turned {
  std::size_t kind = 0;
  double waited_s = 0.0;
  std::uint64_t key = 0;
};

// What a client is told that is refused, the same for all but for the id of its request, which stands between parts.
struct RefusalText {
  std::vector<std::string> parts;
  double until_s = 0.0;  // from then on it holds no more
};

// What does not change while a server runs.
struct ReactorSettings {
  std::vector<std::string> lines;  // first lines of requests that are read here
  std::size_t most_head = 0, most_body = 0;
  std::size_t most_rows = 0;       // that a request may announce
  double budget_s = 0.0;           // of a request without deadline
  double most_wait_s = 0.0;        // by which every request is due
  std::string id_prefix;           // of requests that are refused here
  std::size_t id_digits = 0;       // behind that
};

// What came of a connection that had something to read.
struct Came {
  std::uint64_t key = 0;
  bool plain = false;       // else whatever `data` is, the reactor leaves it to others; empty: it ended, or failed
  std::size_t line = 0;
  std::size_t head_bytes = 0;
  double waited_s = 0.0;    // in the kernel
  std::string data;
  std::vector<std::pair<std::string, std::string>> fields;
};

// Connections whose requests are read together, by one thread: whole plain requests are told in one call, and those
// that are known to be refused are answered without one. Linux only.
//
// (Reactor: Schmidt, "Reactor: An object behavioral pattern for concurrent event demultiplexing and event handler
// dispatching", 1995.)
class Reactor {
 public:
  explicit Reactor(ReactorSettings settings);
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  // Can be read, as select(2) has it, while a connection can.
  int descriptor() const { return epoll_; }

  // Watch a socket, under a key that is no other's. Throws std::system_error.
  void add(int socket, std::uint64_t key);
  // Forget it; nothing happens where it is not known.
  void remove(std::uint64_t key);

  // All that came on a connection is answered: from now on, until the next request of it is told, what comes may be
  // refused here. So it is when a connection is added.
  void ready(std::uint64_t key);

  // Reads what is there of up to `most` connections.
  std::vector<Came> read(std::size_t most);

  // From now on these are refused.
  void refuse(std::vector<Refused> refused, RefusalText text);

  // The requests that were refused here since the last call, and the rows of all.
  std::vector<Turned> take_refused(std::size_t& rows);

  // How much of `data` was sent at once; none where the connection is not known.
  std::size_t send(std::uint64_t key, std::string_view data);

 private:
  // What the next one is told that is refused.
  std::string refusal();
  // Who of those that are refused a request is like; nullptr where it is none of them.
  const Refused* refuses(const PlainRequest& request, double now_s, double waited_s, std::size_t& rows) const;

  ReactorSettings settings_;
  int epoll_ = -1;
  struct Connection {
    int socket = -1;
    bool ready = true;
  };

  std::unordered_map<std::uint64_t, Connection> connections_;
  std::unordered_map<int, std::uint64_t> keys_;  // the last that was added of each socket
  std::vector<char> buffer_;
  PlainRequest request_;
  std::vector<Refused> refused_;
  RefusalText text_;
  std::vector<Turned> turned_;
  std::size_t refused_rows_ = 0;
  std::uint64_t number_ = 0;
};

}  // namespace rankine
