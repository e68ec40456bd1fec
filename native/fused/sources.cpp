#include "sources.h"

#include <variant>

namespace rankine::fused {
namespace {

const std::int32_t* index_of(const Source& source, const Batch& batch, std::size_t first, const std::int32_t* numbers) {
  switch (source.side) {
    case Side::kRequest: return batch.request_index + first;
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

template <class Use>
std::int64_t with_stored(const Column& column, Use use) {
  switch (column.kind) {
    case Cells::kUint8:
      return use(Int8Rows{static_cast<const std::uint8_t*>(column.cells), column.scale, column.bias, column.count,
                          column.dim});
    case Cells::kFloat16:
      return use(HalfRows{static_cast<const Half*>(column.cells), nullptr, nullptr, column.count, column.dim});
    default:
      return use(FloatRows{static_cast<const float*>(column.cells), nullptr, nullptr, column.count, column.dim});
  }
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

std::int64_t fill(const Source& source, const Batch& batch, std::size_t first, std::size_t rows, const Input& input,
                  std::byte* cells, const std::int32_t* numbers, float* scratch) {
  const std::int32_t* index = index_of(source, batch, first, numbers);
  const std::size_t stride = input.slot.stride / (input.type == Type::kFloat32 ? sizeof(float) : 1);
  const Target target{index, rows, reinterpret_cast<float*>(cells), stride, source.column};
  if (source.origin == Origin::kDense) {
    const Column& column = batch.columns[source.values];
    return gather_dense({static_cast<const float*>(column.cells), nullptr, nullptr, column.count, column.dim}, target);
  }
  if (source.origin != Origin::kStored) return look_up(source, batch.columns[source.values], target, scratch);
  Addend addend{};
  if (source.added)
    addend = {batch.shared, batch.requests, batch.shared_width, source.added_start, batch.request_index + first};
  const auto gather = [&](const auto& stored) {
    if (!source.rounded) return gather_slice(stored, source.start, source.width, addend, target);
    const RoundedTarget codes{index, rows, reinterpret_cast<std::uint8_t*>(cells), stride, source.column, source.floor,
                              source.step, source.zero};
    return gather_rounded(stored, source.start, source.width, addend, codes, scratch);
  };
  if (source.side == Side::kRequest) return gather(FloatRows{batch.shared, nullptr, nullptr, batch.requests, batch.shared_width});
  return with_stored(batch.columns[source.values], gather);
}

}  // namespace rankine::fused
