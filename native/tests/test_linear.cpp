// Linear layers on every instruction set against plain loops: INT8 to the bit, floats close; every array ends, or begins,
// at a page that may not be touched.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "check.h"
#include "fused/format.h"
#include "guarded.h"
#include "fused/kernels.h"
#include "packed.h"
#include "random.h"

namespace rankine::tests {
namespace {

using namespace fused;

struct Shape {
  std::size_t rows, width, columns;
};

enum class Rowwise { kNone, kEachRow, kOneForAll };

struct Combination {
  bool out, codes, bias;
  Activation activation;
  Rowwise addend, factor, added;

  bool codes_only() const {
    return codes && !out && activation != Activation::kPrelu && addend == Rowwise::kNone && factor == Rowwise::kNone &&
           added == Rowwise::kNone;
  }
};

std::vector<Combination> all_combinations() {
  std::vector<Combination> found;
  constexpr Rowwise kAll[] = {Rowwise::kNone, Rowwise::kEachRow, Rowwise::kOneForAll};
  for (int outputs = 1; outputs < 4; ++outputs)
    for (bool bias : {false, true})
      for (Activation activation : {Activation::kNone, Activation::kRelu, Activation::kPrelu})
        for (Rowwise addend : kAll)
          for (Rowwise factor : kAll)
            for (Rowwise added : kAll)
              found.push_back({(outputs & 1) != 0, (outputs & 2) != 0, bias, activation, addend, factor, added});
  return found;
}

constexpr float kUntouched = 12345.0f;
constexpr std::uint8_t kUntouchedCode = 171;
constexpr std::size_t kGap = 3;  // elements between rows, which nothing may write
constexpr std::size_t kMostBytes = 256 << 10;

// An operand of the epilogue in guarded memory.
struct Operand {
  Guarded memory{kMostBytes};
  const float* values = nullptr;
  std::size_t stride = 0;

  void fill(Random& random, Rowwise form, const Shape& shape, Edge edge) {
    values = nullptr;
    if (form == Rowwise::kNone) return;
    stride = form == Rowwise::kEachRow ? shape.columns + kGap : 0;
    const std::size_t count = (shape.rows - 1) * stride + shape.columns;
    values = memory.copy(random.floats(count, -1.5f, 1.5f).data(), count, edge);
  }
  float at(std::size_t row, std::size_t n) const { return values[row * stride + n]; }
};

// Codes as the format says; a half goes to the even code, what is no number to the lowest.
double code_of(double steps, float zero, bool relu_only) {
  const double lowest = relu_only ? 0.0 : -static_cast<double>(zero);
  if (!(steps > lowest)) steps = lowest;
  return std::nearbyint(std::min(steps, 255.0 - zero) + zero);
}

template <bool kInteger>
class Layer {
 public:
  using In = std::conditional_t<kInteger, std::uint8_t, float>;
  using Weight = std::conditional_t<kInteger, std::int8_t, float>;

  void check(const Shape& shape, const Combination& combination, Edge edge, std::uint32_t seed) {
    shape_ = shape;
    given_ = combination;
    prepare(edge, seed);
    for (const Kernels* kernels : all_kernels()) {
      call_.epilogue.out = given_.out ? fresh(out_, kUntouched, edge) : nullptr;
      call_.epilogue.codes = given_.codes ? fresh(codes_, kUntouchedCode, edge) : nullptr;
      (kInteger ? kernels->linear_int8 : kernels->linear_float32)(call_);
      compare(kernels->name);
    }
  }

 private:
  template <class T>
  T* fresh(const Guarded& memory, T value, Edge edge) const {
    const std::size_t count = (shape_.rows - 1) * (shape_.columns + kGap) + shape_.columns;
    T* found = memory.place<T>(count, edge);
    std::fill(found, found + count, value);
    return found;
  }

  template <class T>
  const T* of_columns(const Guarded& memory, const std::vector<T>& values, Edge edge) const {
    std::vector<T> padded(values);
    padded.resize(round_up(shape_.columns, kLanes));
    return memory.copy(padded.data(), padded.size(), edge);
  }

  void prepare(Edge edge, std::uint32_t seed) {
    Random random(seed);
    const std::size_t width = shape_.width, columns = shape_.columns;
    stride_ = width + kGap;
    // Integers are read in fours: up to three beyond the last row.
    const std::size_t count = (shape_.rows - 1) * stride_ + (kInteger ? round_up(width, 4) : width);
    In* in = in_memory_.place<In>(count, edge);
    for (std::size_t i = 0; i < count; ++i) in[i] = kInteger ? In(random.below(256)) : In(random.between(-1, 1));
    in_ = in;
    weights_.resize(width * columns);
    for (Weight& weight : weights_)
      weight = kInteger ? Weight(static_cast<int>(random.below(256)) - 128) : Weight(random.between(-1, 1));
    const auto panels = packed(weights_, width, columns);
    call_ = {};
    call_.in = in_;
    call_.in_stride = stride_;
    call_.weights = packed_memory_.copy(panels.data(), panels.size(), edge);
    call_.rows = shape_.rows;
    call_.width = width;
    call_.columns = columns;
    prepare_narrow(edge);
    prepare_epilogue(random, edge);
  }

  // What the loader makes of few columns.
  void prepare_narrow(Edge edge) {
    if (kInteger || shape_.columns > 4) return;
    std::vector<float> turned;
    for (std::size_t n = 0; n < shape_.columns; ++n)
      for (std::size_t k = 0; k < shape_.width; ++k) turned.push_back(weights_[k * shape_.columns + n]);
    call_.narrow = narrow_memory_.copy(turned.data(), turned.size(), edge);
  }

  void prepare_epilogue(Random& random, Edge edge) {
    const std::size_t columns = shape_.columns;
    Epilogue& e = call_.epilogue;
    zero_ = static_cast<float>(random.below(256));
    scale_ = random.floats(columns, 1e-5f, 2e-4f);
    bias_ = random.floats(columns, -1, 1);
    slope_ = random.floats(columns, -0.5f, 0.5f);
    quant_ = random.floats(columns, 5, 120);
    correction_.resize(columns);
    for (std::int32_t& value : correction_) value = static_cast<std::int32_t>(random.next() >> 12) - (1 << 19);
    if (kInteger) e.correction = of_columns(correction_memory_, correction_, edge);
    if (kInteger) e.scale = of_columns(scale_memory_, scale_, edge);
    if (given_.bias) e.bias = of_columns(bias_memory_, bias_, edge);
    e.relu = given_.activation == Activation::kRelu;
    if (given_.activation == Activation::kPrelu) e.slope = of_columns(slope_memory_, slope_, edge);
    if (given_.codes) e.quant = of_columns(quant_memory_, quant_, edge);
    e.zero = zero_;
    addend_.fill(random, given_.addend, shape_, edge);
    factor_.fill(random, given_.factor, shape_, edge);
    added_.fill(random, given_.added, shape_, edge);
    e.addend = addend_.values, e.addend_stride = addend_.stride;
    e.factor = factor_.values, e.factor_stride = factor_.stride;
    e.added = added_.values, e.added_stride = added_.stride;
    e.out_stride = e.codes_stride = columns + kGap;
    if (kInteger && given_.codes_only()) prepare_codes(edge);
  }

  // What the loader makes of a layer that gives nothing but codes.
  void prepare_codes(Edge edge) {
    code_scale_.resize(shape_.columns);
    code_bias_.resize(shape_.columns);
    for (std::size_t n = 0; n < shape_.columns; ++n) {
      code_scale_[n] = scale_[n] * quant_[n];
      code_bias_[n] = given_.bias ? bias_[n] * quant_[n] : 0.0f;
    }
    call_.epilogue.code_scale = of_columns(code_scale_memory_, code_scale_, edge);
    call_.epilogue.code_bias = of_columns(code_bias_memory_, code_bias_, edge);
  }

  void compare(const char* name) const {
    for (std::size_t r = 0; r < shape_.rows; ++r)
      for (std::size_t n = 0; n < shape_.columns; ++n) kInteger ? compare_integer(name, r, n) : compare_float(name, r, n);
    for (std::size_t r = 0; r + 1 < shape_.rows; ++r)
      for (std::size_t i = r * call_.epilogue.out_stride + shape_.columns; i < (r + 1) * call_.epilogue.out_stride; ++i) {
        CHECK(!given_.out || call_.epilogue.out[i] == kUntouched, where(name, r, 0) << ": wrote between rows");
        CHECK(!given_.codes || call_.epilogue.codes[i] == kUntouchedCode, where(name, r, 0) << ": wrote between rows");
      }
  }

  // In floats, operation by operation as the kernels do it: equal to the bit.
  void compare_integer(const char* name, std::size_t r, std::size_t n) const {
    std::int32_t sum = correction_[n];
    for (std::size_t k = 0; k < shape_.width; ++k) sum += in_[r * stride_ + k] * weights_[k * shape_.columns + n];
    const std::size_t at = r * call_.epilogue.out_stride + n;
    if (call_.epilogue.code_scale != nullptr) {
      const float steps = static_cast<float>(sum) * code_scale_[n] + code_bias_[n];
      const double expected = code_of(steps, zero_, call_.epilogue.relu);
      CHECK(call_.epilogue.codes[at] == expected, where(name, r, n) << ": code " << +call_.epilogue.codes[at] << " is not " << expected);
      return;
    }
    const float value = finished<float>(static_cast<float>(sum) * scale_[n], r, n);
    if (given_.out) CHECK(call_.epilogue.out[at] == value, where(name, r, n) << ": " << call_.epilogue.out[at] << " is not " << value);
    if (!given_.codes) return;
    const double expected = code_of(value * quant_[n], zero_, false);
    CHECK(call_.epilogue.codes[at] == expected, where(name, r, n) << ": code " << +call_.epilogue.codes[at] << " is not " << expected);
  }

  void compare_float(const char* name, std::size_t r, std::size_t n) const {
    double sum = 0, size = 1;
    for (std::size_t k = 0; k < shape_.width; ++k) {
      const double term = static_cast<double>(in_[r * stride_ + k]) * weights_[k * shape_.columns + n];
      sum += term;
      size += std::fabs(term);
    }
    const double value = finished<double>(sum, r, n), allowed = 2e-6 * size;
    const std::size_t at = r * call_.epilogue.out_stride + n;
    if (given_.out)
      CHECK(std::fabs(call_.epilogue.out[at] - value) <= allowed, where(name, r, n) << ": " << call_.epilogue.out[at] << " is not " << value);
    if (!given_.codes) return;
    const std::uint8_t code = call_.epilogue.codes[at];
    if (given_.out) {  // both come from one number
      const double expected = code_of(call_.epilogue.out[at] * quant_[n], zero_, false);
      CHECK(code == expected, where(name, r, n) << ": code " << +code << " is not " << expected);
      return;
    }
    const double low = code_of((value - allowed) * quant_[n], zero_, false), high = code_of((value + allowed) * quant_[n], zero_, false);
    CHECK(code >= low && code <= high, where(name, r, n) << ": code " << +code << " is not within " << low << " to " << high);
  }

  template <class T>
  T finished(T value, std::size_t r, std::size_t n) const {
    if (given_.bias) value = value + bias_[n];
    if (addend_.values) value = value + addend_.at(r, n);
    if (given_.activation == Activation::kRelu) value = value < 0 ? 0 : value;
    if (given_.activation == Activation::kPrelu) value = value < 0 ? value * slope_[n] : value;
    if (factor_.values) value = value * factor_.at(r, n);
    if (added_.values) value = value + added_.at(r, n);
    return value;
  }

  std::string where(const char* name, std::size_t r, std::size_t n) const {
    std::ostringstream text;
    text << name << (kInteger ? " int8 " : " float32 ") << shape_.rows << " x " << shape_.width << " x " << shape_.columns
         << ", row " << r << ", column " << n << ", kind " << static_cast<int>(given_.activation) << ", operands "
         << static_cast<int>(given_.addend) << static_cast<int>(given_.factor) << static_cast<int>(given_.added);
    return text.str();
  }

  Guarded in_memory_{kMostBytes}, packed_memory_{kMostBytes}, narrow_memory_{kMostBytes}, out_{kMostBytes}, codes_{kMostBytes};
  Guarded correction_memory_{kMostBytes}, scale_memory_{kMostBytes}, bias_memory_{kMostBytes}, slope_memory_{kMostBytes};
  Guarded quant_memory_{kMostBytes}, code_scale_memory_{kMostBytes}, code_bias_memory_{kMostBytes};
  Operand addend_, factor_, added_;
  Shape shape_{};
  Combination given_{};
  LinearCall call_{};
  const In* in_ = nullptr;
  std::size_t stride_ = 0;
  float zero_ = 0;
  std::vector<Weight> weights_;
  std::vector<std::int32_t> correction_;
  std::vector<float> scale_, bias_, slope_, quant_, code_scale_, code_bias_;
};

// Every number of rows with every number of columns; widths and epilogues take turns.
template <bool kInteger>
void check_shapes() {
  const auto combinations = all_combinations();
  constexpr std::size_t kWidths[] = {1, 2, 3, 4, 5, 8, 13, 16, 31, 64};
  auto layer = std::make_unique<Layer<kInteger>>();
  std::uint32_t turn = 0;
  for (std::size_t rows = 1; rows <= 25; ++rows)
    for (std::size_t columns = 1; columns <= 130; ++columns, ++turn)
      layer->check({rows, kWidths[turn % std::size(kWidths)], columns}, combinations[turn * 7 % combinations.size()],
                   kEdges[(turn / 2 + columns) % 2], turn);
}

// Many rows at once, and inputs that fill no whole number of tiles.
void check_tiles() {
  const auto combinations = all_combinations();
  auto layer = std::make_unique<Layer<true>>();
  std::uint32_t turn = 0;
  for (std::size_t rows = 15; rows <= 66; ++rows)
    for (std::size_t width : {1, 60, 61, 64, 65, 127, 128, 250})
      for (std::size_t columns : {1, 16, 17, 32, 45, 64, 77, 113}) {
        layer->check({rows, width, columns}, combinations[turn * 7 % combinations.size()], kEdges[(turn / 3) % 2], turn);
        ++turn;
      }
}

template <bool kInteger>
void check_combinations() {
  auto layer = std::make_unique<Layer<kInteger>>();
  std::uint32_t turn = 1;
  for (const Combination& combination : all_combinations())
    for (const Shape& shape : {Shape{1, 9, 1}, Shape{7, 6, 3}, Shape{6, 5, 37}, Shape{13, 3, 64}, Shape{2, 7, 79}, Shape{35, 66, 47}})
      for (Edge edge : kEdges) layer->check(shape, combination, edge, ++turn);
}

}  // namespace

TEST(int8_layers_equal_plain_loops_to_the_bit_when_rows_and_columns_vary) { check_shapes<true>(); }
TEST(float32_layers_equal_plain_loops_when_rows_and_columns_vary) { check_shapes<false>(); }
TEST(int8_layers_equal_plain_loops_to_the_bit_when_rows_are_many_and_inputs_wide) { check_tiles(); }
TEST(int8_layers_equal_plain_loops_to_the_bit_when_epilogues_vary) { check_combinations<true>(); }
TEST(float32_layers_equal_plain_loops_when_epilogues_vary) { check_combinations<false>(); }

TEST(int8_sums_are_exact_when_all_products_are_the_largest) {
  // 255 * -128 in every place: where sixteen bits were added up anywhere, they would saturate.
  constexpr std::size_t kWidth = 1000, kColumns = 20, kRows = 37;
  const std::vector<std::uint8_t> in(kRows * kWidth, 255);
  const auto weights = packed(std::vector<std::int8_t>(kWidth * kColumns, -128), kWidth, kColumns);
  const std::vector<std::int32_t> correction(32, 7);
  const std::vector<float> scale(32, 1.0f);
  for (const Kernels* kernels : all_kernels()) {
    std::vector<float> out(kRows * kColumns);
    LinearCall call{};
    call.in = in.data(), call.in_stride = kWidth, call.weights = weights.data();
    call.rows = kRows, call.width = kWidth, call.columns = kColumns;
    call.epilogue.correction = correction.data(), call.epilogue.scale = scale.data();
    call.epilogue.out = out.data(), call.epilogue.out_stride = kColumns;
    kernels->linear_int8(call);
    for (float value : out) CHECK(value == 7.0f - 255.0f * 128.0f * kWidth, kernels->name << ": " << value);
  }
}

TEST(int8_sums_wrap_when_they_do_not_fit) {
  // No model does this, a hostile file may: every instruction set must do the same, and nothing undefined.
  constexpr std::size_t kRows = 18;
  const std::vector<std::uint8_t> in(kRows * 4, 255);
  const auto weights = packed(std::vector<std::int8_t>(4 * 16, 127), 4, 16);
  const std::vector<std::int32_t> correction(16, 0x7FFFFFFF);
  const std::vector<float> scale(16, 1.0f);
  for (const Kernels* kernels : all_kernels()) {
    std::vector<float> out(kRows * 16);
    LinearCall call{};
    call.in = in.data(), call.in_stride = 4, call.weights = weights.data();
    call.rows = kRows, call.width = 4, call.columns = 16;
    call.epilogue.correction = correction.data(), call.epilogue.scale = scale.data();
    call.epilogue.out = out.data(), call.epilogue.out_stride = 16;
    kernels->linear_int8(call);
    for (float value : out) CHECK(value == static_cast<float>(-2147483649.0 + 4 * 255 * 127), kernels->name << ": " << value);
  }
}

TEST(values_are_added_once_when_the_result_lies_where_they_do) {
  constexpr std::size_t kRows = 24, kWidth = 64, kColumns = 16;  // one tile and a half
  const std::vector<std::uint8_t> in(kRows * kWidth, 1);
  const auto weights = packed(std::vector<std::int8_t>(kWidth * kColumns, 1), kWidth, kColumns);
  const std::vector<std::int32_t> correction(kColumns);
  const std::vector<float> scale(kColumns, 1.0f);
  for (const Kernels* kernels : all_kernels()) {
    std::vector<float> out(kRows * kColumns, 0.5f);
    LinearCall call{};
    call.in = in.data(), call.in_stride = kWidth, call.weights = weights.data();
    call.rows = kRows, call.width = kWidth, call.columns = kColumns;
    call.epilogue.correction = correction.data(), call.epilogue.scale = scale.data();
    call.epilogue.out = out.data(), call.epilogue.out_stride = kColumns;
    call.epilogue.added = out.data(), call.epilogue.added_stride = kColumns;
    kernels->linear_int8(call);
    for (float value : out) CHECK(value == kWidth + 0.5f, kernels->name << ": " << value);
  }
}

}  // namespace rankine::tests
