#include "sources.h"

#include <variant>

namespace rankine::fused {
namespace {

const std::int32_t* index_of(const Source& source, const Batch& batch, std::size_t first, const std::int32_t* numbers) {
  switch (source.side) {
    case Side::kRequest: return batch.request_index == nullptr ? numbers : batch.request_index + first;
    case Side::kItem: return batch.item_index + first;
    default: return numbers;
  }
}

std::int64_t look_up(const Source& source, const Column& column, const Target& target, float* scratch) {
  const auto* ids = static_cast<const std::int32_t*>(column.cells);
  const Bags bags{ids, column.count, column.offsets, column.lists, column.weights, source.pooling};
  const auto with = [&](const auto& rows) -> std::int64_t {
    switch (source.origin) {
      case Origin::kBag: return lookup_bag(rows, bags, target);
      case Origin::kSequence: return lookup_sequence(rows, bags, source.length, target);
      default: return lookup_one(rows, ids, column.count, target);
    }
  };
  if (const auto* rows = std::get_if<AnyRows>(source.table)) return rows->with(with);
  if (const auto* rows = std::get_if<MixedRows>(source.table)) return with(*rows);
  auto rows = std::get<QuotientRemainderRows>(*source.table);
  rows.scratch = scratch;
  return with(rows);
}

std::size_t cell_bytes(Cells kind) { return kind == Cells::kFloat32 ? 4 : kind == Cells::kFloat16 ? 2 : 1; }

// Rows of an item or, where the source is of the request, of what is shared; each with what is added to it.
std::int64_t gather(const Source& source, const Kernels& kernels, const Batch& batch, std::size_t first, std::size_t rows,
                    const std::int32_t* index, std::size_t stride, std::byte* cells) {
  Column from;
  if (source.side == Side::kRequest) {
    from.kind = Cells::kFloat32;
    from.cells = batch.shared;
    from.count = batch.requests;
    from.dim = batch.shared_width;
  } else {
    from = batch.columns[source.values];
  }
  const std::size_t cell = cell_bytes(from.kind);
  const auto* start = static_cast<const std::byte*>(from.cells) + source.start * cell;
  StoredRow row{from.kind, nullptr, 1.0f, 0.0f, nullptr, source.width};
  for (std::size_t r = 0; r < rows; ++r) {
    if (outside(index[r], from.count)) return static_cast<std::int64_t>(r);
    const auto at = static_cast<std::size_t>(index[r]);
    row.cells = start + at * from.dim * cell;
    if (from.kind == Cells::kUint8) {
      row.scale = from.scale[at];
      row.bias = from.bias[at];
    }
    if (source.added) {
      const std::int32_t request = batch.request_index[first + r];
      if (outside(request, batch.requests)) return static_cast<std::int64_t>(r);
      row.added = batch.shared + static_cast<std::size_t>(request) * batch.shared_width + source.added_start;
    }
    const std::size_t to = r * stride + source.column;
    if (source.rounded)
      kernels.stored_codes(row, source.quant, source.zero, source.lowest, reinterpret_cast<std::uint8_t*>(cells) + to);
    else
      kernels.stored(row, reinterpret_cast<float*>(cells) + to);
  }
  return -1;
}

}  // namespace

const char* misfit(const Source& source, const Column& column) {
  switch (source.origin) {
    case Origin::kOne:
      return column.kind == Cells::kInt32 && column.offsets == nullptr ? nullptr : "must be int32 ids";
    case Origin::kBag:
    case Origin::kSequence:
      return column.kind == Cells::kInt32 && column.offsets != nullptr ? nullptr : "must be lists of int32 ids";
    case Origin::kDense:
      return column.kind == Cells::kFloat32 && column.dim == source.width ? nullptr : "must be float32, as wide as the feature";
    case Origin::kStored:
      if (source.side == Side::kRequest) return nullptr;  // the request's part has computed it
      if (column.kind != Cells::kFloat32 && column.kind != Cells::kFloat16 && column.kind != Cells::kUint8)
        return "must be rows of float32, float16 or uint8";
      if ((column.kind == Cells::kUint8) != (column.scale != nullptr)) return "must have a scale and a bias where it is uint8";
      return source.start + source.width <= column.dim ? nullptr : "has too few columns";
  }
  return "is of an unknown origin";
}

std::int64_t fill(const Source& source, const Kernels& kernels, const Batch& batch, std::size_t first, std::size_t rows,
                  const Input& input, std::byte* cells, const std::int32_t* numbers, float* scratch) {
  const std::int32_t* index = index_of(source, batch, first, numbers);
  const std::size_t stride = input.slot.stride / (input.type == Type::kFloat32 ? sizeof(float) : 1);
  if (source.origin == Origin::kStored) return gather(source, kernels, batch, first, rows, index, stride, cells);
  const Target target{index, rows, reinterpret_cast<float*>(cells), stride, source.column};
  const Column& column = batch.columns[source.values];
  if (source.origin == Origin::kDense)
    return gather_dense({static_cast<const float*>(column.cells), nullptr, nullptr, column.count, column.dim}, target);
  return look_up(source, column, target, scratch);
}

std::size_t rows_read(const Column& column, const std::int32_t* index, std::size_t first, std::size_t rows,
                      std::vector<const char*>& found) {
  const std::size_t bytes = column.dim * cell_bytes(column.kind);
  for (std::size_t r = first; r < first + rows; ++r)
    if (!outside(index[r], column.count))
      found.push_back(static_cast<const char*>(column.cells) + static_cast<std::size_t>(index[r]) * bytes);
  return bytes;
}

}  // namespace rankine::fused
