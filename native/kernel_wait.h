#pragma once

namespace rankine {

// Milliseconds since data last came in on a TCP connection; -1 where the kernel does not tell.
int ms_since_data(int descriptor);

}  // namespace rankine
