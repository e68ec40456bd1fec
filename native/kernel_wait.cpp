#include "kernel_wait.h"

#if defined(__linux__)
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <climits>
#include <cstddef>
#endif

namespace rankine {

#if defined(__linux__)
int ms_since_data(int descriptor) {
  tcp_info info{};
  socklen_t size = sizeof(info);
  if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return -1;
  constexpr std::size_t kNeeded = offsetof(tcp_info, tcpi_last_data_recv) + sizeof(info.tcpi_last_data_recv);
  if (size < kNeeded || info.tcpi_last_data_recv > INT_MAX) return -1;
  return static_cast<int>(info.tcpi_last_data_recv);
}
#else
int ms_since_data(int) { return -1; }
#endif

}  // namespace rankine
