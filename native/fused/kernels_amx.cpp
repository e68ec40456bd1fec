// AMX: tiles of sixteen rows by sixteen columns of sums, for INT8 layers of as many rows and 64 inputs, or more.  All
// else is AVX-512's.
// Compiled with those flags where the target is x86-64, else to nothing.
#include "kernels.h"

#if defined(__AMX_INT8__) && defined(__AMX_TILE__) && defined(__AVX512F__) && defined(__AVX512VNNI__) && defined(__linux__)
#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "../multiversion.h"
#include "format.h"

namespace rankine::fused {
namespace {

#include "epilogue_avx512.inc"
#include "fetch.inc"

constexpr std::size_t kTile = 16;       // rows of a tile, and its columns, and groups of four inputs in one instruction
constexpr std::size_t kTileBytes = 64;  // of a row of a tile

// Two tiles of rows; where sixteen are not left, the last sixteen once more, of which `begin` are done.
struct Rows {
  std::size_t tiles;
  std::size_t first[2];
  std::size_t begin[2];
};

Rows rows_from(std::size_t row, std::size_t rows) {
  Rows found{};
  for (; found.tiles < 2 && row < rows; row += kTile, ++found.tiles) {
    found.first[found.tiles] = std::min(row, rows - kTile);
    found.begin[found.tiles] = row - found.first[found.tiles];
  }
  return found;
}

// Columns of a panel, and its last groups, filled up with zeros to a tile: they are multiplied by any bytes.
struct Panel {
  const std::byte* weights;
  std::size_t bytes;  // of a group
  std::size_t column;
  alignas(64) std::byte last[kTile * kPanel * 4];
};

// The last bytes of sixteen rows, where 64 may not be read.
struct LastCodes {
  alignas(64) std::uint8_t codes[2][kTile * kTileBytes];
};

// GCC does not know that a tile is loaded from memory: what is written before has to be there.
RANKINE_INLINE void written() { std::atomic_signal_fence(std::memory_order_seq_cst); }

struct Amx : Avx512Epilogue {
  // The sums of kA by kB tiles: accumulators 0 to 3, rows in 4 and 5, weights in 6 and 7.
  template <int kA, int kB>
  static void sum(const LinearCall& call, const Rows& rows, const Panel& panel, std::size_t offset, const LastCodes* last,
                  std::int32_t* sums) {
    const auto* in = static_cast<const std::uint8_t*>(call.in);
    const std::size_t groups = (call.width + 3) / 4, stride = call.in_stride;
    const std::uint8_t* const first = in + rows.first[0] * stride;
    const std::uint8_t* const second = in + rows.first[1] * stride;
    const std::int32_t* const correction = call.epilogue.correction + panel.column + offset;
    _tile_loadd(0, correction, 0);  // a stride of none: the same for all rows
    if constexpr (kB == 2) _tile_loadd(1, correction + kTile, 0);
    if constexpr (kA == 2) _tile_loadd(2, correction, 0);
    if constexpr (kA * kB == 4) _tile_loadd(3, correction + kTile, 0);
    const std::byte* weights = panel.weights + offset * 4;
    const std::size_t whole = groups / kTile;
    for (std::size_t k = 0; k < whole; ++k, weights += kTile * panel.bytes)
      multiply<kA, kB>(first + k * kTileBytes, second + k * kTileBytes, stride, weights, panel.bytes);
    if (groups % kTile != 0) {
      if (last == nullptr)
        multiply<kA, kB>(first + whole * kTileBytes, second + whole * kTileBytes, stride, panel.last + offset * 4,
                         panel.bytes);
      else
        multiply<kA, kB>(last->codes[0], last->codes[1], kTileBytes, panel.last + offset * 4, panel.bytes);
    }
    constexpr std::size_t kRowBytes = kB * kTileBytes;
    _tile_stored(0, sums, kRowBytes);
    if constexpr (kB == 2) _tile_stored(1, sums + kTile, kRowBytes);
    if constexpr (kA == 2) _tile_stored(2, sums + kTile * kTile * kB, kRowBytes);
    if constexpr (kA * kB == 4) _tile_stored(3, sums + kTile * kTile * kB + kTile, kRowBytes);
  }

  template <int kA, int kB>
  RANKINE_INLINE static void multiply(const std::uint8_t* first, const std::uint8_t* second, std::size_t stride,
                                      const std::byte* weights, std::size_t group) {
    _tile_loadd(6, weights, group);
    _tile_loadd(4, first, stride);
    _tile_dpbusd(0, 4, 6);
    if constexpr (kB == 2) {
      _tile_loadd(7, weights + kTileBytes, group);
      _tile_dpbusd(1, 4, 7);
    }
    if constexpr (kA == 2) {
      _tile_loadd(5, second, stride);
      _tile_dpbusd(2, 5, 6);
    }
    if constexpr (kA * kB == 4) _tile_dpbusd(3, 5, 7);
  }

  template <std::size_t kV>
  static void block(const LinearCall& call, const Rows& rows, const Panel& panel, std::size_t offset,
                    const LastCodes* last) {
    alignas(64) std::int32_t sums[2 * kTile * kV * kTile];
    if (rows.tiles == 2)
      sum<2, kV>(call, rows, panel, offset, last, sums);
    else
      sum<1, kV>(call, rows, panel, offset, last, sums);
    for (std::size_t tile = 0; tile < rows.tiles; ++tile)
      finish_tile<kV>(call, rows.first[tile], rows.begin[tile], panel.column + offset, sums + tile * kTile * kV * kTile);
  }

  // Rows [begin, 16) of a tile.
  template <std::size_t kV>
  static void finish_tile(const LinearCall& call, std::size_t first, std::size_t begin, std::size_t column,
                          const std::int32_t* sums) {
    constexpr std::size_t kRows = 8;
    const std::size_t left = call.columns - column;
    std::size_t r = begin;
    for (; r % kRows != 0; ++r) finish_rows<1, kV>(call.epilogue, first + r, column, left, sums + r * kV * kLanes);
    for (; r < kTile; r += kRows) finish_rows<kRows, kV>(call.epilogue, first + r, column, left, sums + r * kV * kLanes);
  }

  template <std::size_t kRows, std::size_t kV>
  RANKINE_INLINE static void finish_rows(const Epilogue& e, std::size_t row, std::size_t column, std::size_t left,
                                         const std::int32_t* sums) {
    __m512i held[kRows][kV];
    RANKINE_UNROLL for (std::size_t r = 0; r < kRows; ++r)
      RANKINE_UNROLL for (std::size_t v = 0; v < kV; ++v) held[r][v] = _mm512_load_si512(sums + (r * kV + v) * kLanes);
    if (e.code_scale != nullptr) return finish_codes(e, row, column, left, held);
    if constexpr (kRows > 1)
      if (finish_held(e, row, column, left, held)) return;
    finish<kRows, kV>(e, row, column, left, sums);
  }

  // Copies the last groups of two tiles of rows, where less than a whole row of a tile follows the last of them.
  static const LastCodes* last_codes(const LinearCall& call, const Rows& rows, LastCodes& into) {
    const std::size_t bytes = (call.width + 3) / 4 * 4, start = bytes / kTileBytes * kTileBytes;
    const std::size_t end = rows.first[rows.tiles - 1] + kTile;
    if (start == bytes || (call.rows - end) * call.in_stride >= kTileBytes) return nullptr;
    const __mmask64 mask = (1ull << (bytes - start)) - 1;
    const auto* in = static_cast<const std::uint8_t*>(call.in) + start;
    for (std::size_t tile = 0; tile < rows.tiles; ++tile)
      for (std::size_t r = 0; r < kTile; ++r)
        _mm512_store_si512(into.codes[tile] + r * kTileBytes,
                           _mm512_maskz_loadu_epi8(mask, in + (rows.first[tile] + r) * call.in_stride));
    written();
    return &into;
  }

  static void linear(const LinearCall& call) {
    // Less than one whole tile of inputs is not worth the way through memory.
    if (call.rows < kTile || call.width < kTileBytes) return avx512_kernels()->linear_int8(call);
    static const TileConfiguration configuration;
    _tile_loadconfig(&configuration);
    const std::size_t groups = (call.width + 3) / 4, rest = groups % kTile;
    const std::size_t padded = (call.columns + kLanes - 1) / kLanes * kLanes;
    Panel panel;
    panel.weights = static_cast<const std::byte*>(call.weights);
    LastCodes copied;
    for (panel.column = 0; panel.column < padded; panel.column += kPanel) {
      const std::size_t columns = std::min<std::size_t>(padded - panel.column, kPanel);
      panel.bytes = columns * 4;
      const std::byte* const next = panel.weights + groups * panel.bytes;
      if (panel.column + columns < padded) fetch_pages(next, groups * panel.bytes);
      if (rest != 0) {
        std::memcpy(panel.last, next - rest * panel.bytes, rest * panel.bytes);
        std::memset(panel.last + rest * panel.bytes, 0, (kTile - rest) * panel.bytes);
        written();
      }
      for (std::size_t row = 0; row < call.rows; row += 2 * kTile) {
        const Rows rows = rows_from(row, call.rows);
        const LastCodes* last = last_codes(call, rows, copied);
        std::size_t offset = 0;
        for (; offset + 2 * kTile <= columns; offset += 2 * kTile) block<2>(call, rows, panel, offset, last);
        if (offset < columns) block<1>(call, rows, panel, offset, last);
      }
      panel.weights = next;
    }
    _tile_release();
  }
};

}  // namespace

const Kernels* amx_kernels() {
  static const Kernels kernels = [] {
    Kernels found = *avx512_kernels();
    found.name = "amx";
    found.fetches_ahead = false;  // tiles wait for memory, and stored rows are read in order: the processor fetches on
    found.block_rows = 2 * kTile;
    found.arena_bytes = 768 << 10;  // these processors have a second cache of two megabytes
    found.linear_int8 = Amx::linear;
    return found;
  }();
  return &kernels;
}

}  // namespace rankine::fused
#else
namespace rankine::fused {
const Kernels* amx_kernels() { return nullptr; }
}  // namespace rankine::fused
#endif
