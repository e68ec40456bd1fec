#include "reactor.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <system_error>
#include <utility>

#include "kernel_wait.h"

#if defined(__linux__)
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#endif

namespace rankine {

#if defined(__linux__)
namespace {

constexpr std::string_view kDeadline = "x-rankine-deadline-ms", kCandidates = "x-rankine-candidates";
constexpr std::string_view kOwn = "x-rankine-";
constexpr std::size_t kRowsDigits = 9;
constexpr std::size_t kEvents = 64;

// On the clock of Python's time.perf_counter.
double now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Whoever sends one of these is answered in a way of their own.
bool is_told_otherwise(std::string_view name) {
  if (name == "x-request-id" || name == "traceparent" || name == "endpoint-load-metrics-format") return true;
  return name.substr(0, kOwn.size()) == kOwn && name != kDeadline && name != kCandidates;
}

// Milliseconds as plain decimals; false where it is anything else, which may be a number all the same.
bool read_ms(std::string_view text, double& ms) {
  for (const char c : text) {
    if ((c < '0' || c > '9') && c != '.') return false;
  }
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), ms);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

Reactor::Reactor(ReactorSettings settings)
    : settings_(std::move(settings)), buffer_(settings_.most_head + settings_.most_body + 1) {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_ < 0) throw std::system_error(errno, std::generic_category(), "epoll_create1");
}

Reactor::~Reactor() {
  if (epoll_ >= 0) close(epoll_);
}

void Reactor::add(int socket, std::uint64_t key) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP;
  event.data.u64 = key;
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, socket, &event) != 0)
    throw std::system_error(errno, std::generic_category(), "epoll_ctl");
  connections_[key] = {socket, true};
  keys_[socket] = key;
}

void Reactor::remove(std::uint64_t key) {
  const auto found = connections_.find(key);
  if (found == connections_.end()) return;
  const auto owner = keys_.find(found->second.socket);
  // A socket that is closed is forgotten by the kernel, and its number may be that of another that was added since.
  if (owner != keys_.end() && owner->second == key) {
    epoll_ctl(epoll_, EPOLL_CTL_DEL, found->second.socket, nullptr);
    keys_.erase(owner);
  }
  connections_.erase(found);
}

void Reactor::ready(std::uint64_t key) {
  const auto found = connections_.find(key);
  if (found != connections_.end()) found->second.ready = true;
}

std::vector<Came> Reactor::read(std::size_t most) {
  epoll_event events[kEvents];
  std::vector<Came> came;
  const int count = epoll_wait(epoll_, events, static_cast<int>(std::min(most, kEvents)), 0);
  for (int at = 0; at < count; ++at) {
    const std::uint64_t key = events[at].data.u64;
    const auto found = connections_.find(key);
    if (found == connections_.end()) continue;
    Connection& connection = found->second;
    const ssize_t got = recv(connection.socket, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    const std::string_view data(buffer_.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
    const bool plain = !data.empty() && data.size() < buffer_.size() &&
                       read_plain_request(data, settings_.lines, settings_.most_head, request_) &&
                       data.size() - request_.head_bytes <= settings_.most_body;
    if (!plain) {
      Came& other = came.emplace_back();
      other.key = key;
      other.data.assign(data);
      continue;
    }
    const double waited_s = 1e-3 * static_cast<double>(std::max(0, ms_since_data(connection.socket)));
    const double now_s = now();
    std::size_t rows = 0;
    const Refused* like = connection.ready ? refuses(request_, now_s, waited_s, rows) : nullptr;
    if (like != nullptr) {
      const std::string whole = refusal();
      const std::size_t sent = send(key, whole);
      turned_.push_back({like->kind, waited_s, key});
      refused_rows_ += rows;
      if (sent < whole.size()) {  // it does not read its answers
        shutdown(connection.socket, SHUT_RDWR);
        came.emplace_back().key = key;
      }
      continue;
    }
    connection.ready = false;
    Came& one = came.emplace_back();
    one.key = key;
    one.plain = true;
    one.line = request_.line;
    one.head_bytes = request_.head_bytes;
    one.waited_s = waited_s;
    one.data.assign(data);
    one.fields.reserve(request_.fields.size());
    for (const auto& [name, value] : request_.fields) one.fields.emplace_back(name, std::string(value));
  }
  return came;
}

const Refused* Reactor::refuses(const PlainRequest& request, double now_s, double waited_s, std::size_t& rows) const {
  if (refused_.empty() || now_s >= text_.until_s) return nullptr;
  double budget_s = settings_.budget_s;
  rows = 1;
  for (const auto& [name, value] : request.fields) {
    if (is_told_otherwise(name)) return nullptr;
    if (name == kDeadline) {
      double ms = 0.0;
      if (!read_ms(value, ms) || ms <= 0.0) return nullptr;
      budget_s = 1e-3 * ms;
    } else if (name == kCandidates) {
      if (!read_digits(value, kRowsDigits, rows) || rows == 0 || rows > settings_.most_rows) return nullptr;
    }
  }
  const double due_s = now_s - waited_s + std::min(budget_s, settings_.most_wait_s);
  for (const Refused& one : refused_) {
    const bool due = one.from_s <= due_s && due_s <= one.due_s && due_s - now_s <= one.left_s;
    if (due && rows >= one.rows && waited_s >= one.waited_s) return &one;
  }
  return nullptr;
}

std::string Reactor::refusal() {
  std::string id = settings_.id_prefix + std::string(settings_.id_digits, '0');
  std::uint64_t number = ++number_;
  for (std::size_t at = id.size(); at-- > settings_.id_prefix.size(); number /= 16) id[at] = "0123456789abcdef"[number % 16];
  std::string whole = text_.parts.front();
  for (std::size_t part = 1; part < text_.parts.size(); ++part) whole += id + text_.parts[part];
  return whole;
}

void Reactor::refuse(std::vector<Refused> refused, RefusalText text) {
  if (text.parts.empty()) refused.clear();
  refused_ = std::move(refused);
  text_ = std::move(text);
}

std::vector<Turned> Reactor::take_refused(std::size_t& rows) {
  rows = std::exchange(refused_rows_, 0);
  return std::exchange(turned_, {});
}

std::size_t Reactor::send(std::uint64_t key, std::string_view data) {
  const auto found = connections_.find(key);
  if (found == connections_.end()) return 0;
  const ssize_t sent = ::send(found->second.socket, data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  return sent > 0 ? static_cast<std::size_t>(sent) : 0;
}

#else

Reactor::Reactor(ReactorSettings) { throw std::system_error(ENOSYS, std::generic_category(), "epoll"); }
Reactor::~Reactor() = default;
void Reactor::add(int, std::uint64_t) {}
void Reactor::remove(std::uint64_t) {}
void Reactor::ready(std::uint64_t) {}
std::vector<Came> Reactor::read(std::size_t) { return {}; }
const Refused* Reactor::refuses(const PlainRequest&, double, double, std::size_t&) const { return nullptr; }
void Reactor::refuse(std::vector<Refused>, RefusalText) {}
std::vector<Turned> Reactor::take_refused(std::size_t&) { return {}; }
std::string Reactor::refusal() { return {}; }
std::size_t Reactor::send(std::uint64_t, std::string_view) { return 0; }

#endif

}  // namespace rankine
