#include "weights/codec.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "weights/rounding.h"

namespace qfleet {
namespace {

static_assert(std::endian::native == std::endian::little);

// Of a vector; a message holds fewer.
constexpr uint64_t kMaxElements = uint64_t{1} << 32;
constexpr uint32_t kInfinity = 0x7f800000;  // Above it: NaN.
constexpr float kLargest = 127;
// How INT8 divides what it may have: see codec.h.
constexpr uint64_t kLeastGroup = 16;
constexpr uint64_t kPercentOfFp32 = 27;
// Of a scale: what is multiplied with it stays a normal number.
constexpr float kSmallest = 1e-32F;

// Element i of an array that need not be aligned.
template <typename T>
T Get(const char* array, uint64_t i) {
  T value;
  std::memcpy(&value, array + i * sizeof(T), sizeof(T));
  return value;
}
template <typename T>
void Put(char* array, uint64_t i, std::type_identity_t<T> value) {
  std::memcpy(array + i * sizeof(T), &value, sizeof(T));
}

uint16_t ToBf16(uint32_t bits) {
  // A NaN stays one, whichever bits are cut off.
  if ((bits & 0x7fffffff) > kInfinity) return (bits >> 16) | 0x40;
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

uint16_t ToHalf(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > kInfinity) return sign | 0x7e00;
  // From the middle between the largest half and the power of two above on.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {          // Subnormal: whole multiples of 2^-24.
    constexpr float kShift = 0x1.8p-1F;  // Its last bit is 2^-24.
    return sign |
           static_cast<uint16_t>(std::bit_cast<uint32_t>(
                                     std::bit_cast<float>(magnitude) + kShift) -
                                 std::bit_cast<uint32_t>(kShift));
  }
  const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return sign | static_cast<uint16_t>((rounded - 0x38000000) >> 13);
}

float FromHalf(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000U} << 16;
  const uint32_t rest = half & 0x7fff;
  if (rest >= 0x7c00) {
    return std::bit_cast<float>(sign | kInfinity | (rest & 0x3ff) << 13);
  }
  const float magnitude = rest < 0x400
                              ? static_cast<float>(rest) * 0x1p-24F
                              : std::bit_cast<float>((rest << 13) + 0x38000000);
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
}

// 2^(-k / 16), the same everywhere: IEEE's arithmetic alone.
float Fraction(uint8_t k) {
  constexpr float kRoots[16] = {
      0x1.000000p+0F, 0x1.ea4afap-1F, 0x1.d5818ep-1F, 0x1.c199bep-1F,
      0x1.ae89fap-1F, 0x1.9c4918p-1F, 0x1.8ace54p-1F, 0x1.7a1148p-1F,
      0x1.6a09e6p-1F, 0x1.5ab07ep-1F, 0x1.4bfdaep-1F, 0x1.3dea64p-1F,
      0x1.306fe0p-1F, 0x1.2387a6p-1F, 0x1.172b84p-1F, 0x1.0b5586p-1F};
  return kRoots[k % 16] * std::bit_cast<float>((127U - k / 16) << 23);
}
constexpr uint8_t kNanScale = 255;

// What codec.h says of INT8, for a layout.
struct Int8Form {
  std::vector<bool> integers;
  bool floats = false;
  uint64_t group = 0;
};

// Of an element of a small span.
uint64_t SmallBytes(const Int8Form& form) {
  return form.floats ? sizeof(float) : sizeof(uint16_t);
}

// Of a channel of a large matrix.
uint64_t GroupsOf(const v1::WeightSpan& span, uint64_t group) {
  return (span.size() / span.channels() + group - 1) / group;
}

uint64_t BytesOf(const WeightLayout& layout, const Int8Form& form) {
  uint64_t bytes = 0;
  for (int i = 0; i < layout.size(); ++i) {
    const v1::WeightSpan& span = layout[i];
    if (form.integers[i]) {
      bytes += sizeof(float) + span.channels() * GroupsOf(span, form.group) +
               span.size();
    } else {
      bytes += span.size() * SmallBytes(form);
    }
  }
  return bytes;
}

Int8Form Int8FormOf(const WeightLayout& layout) {
  uint64_t elements = 0, row = 1;
  for (const v1::WeightSpan& span : layout) {
    elements += span.size();
    if (span.channels() > 0) {
      row = std::max<uint64_t>(row, span.size() / span.channels());
    }
  }
  Int8Form form{.integers = IntegerSpans(layout), .floats = true, .group = row};
  const auto fits = [&] {
    return BytesOf(layout, form) * 100 <=
           elements * sizeof(float) * kPercentOfFp32;
  };
  form.floats = fits();
  for (form.group = kLeastGroup; form.group < row && !fits();) form.group *= 2;
  return form;
}

// Of the floats of a group, without their signs; of NaN and infinity: those
// bits, which are above all others.
uint32_t LargestBits(const float* from, uint64_t size) {
  int32_t most = 0;
  for (uint64_t i = 0; i < size; ++i) {
    most = std::max(most, std::bit_cast<int32_t>(from[i]) & 0x7fffffff);
  }
  return static_cast<uint32_t>(most);
}

// The smallest scale with which no weight is above 127.
uint8_t ScaleOf(float most, float largest) {
  uint8_t k = kNanScale - 1;
  while (k > 0 && largest * Fraction(k) * kLargest < most) --k;
  return k;
}

absl::Span<const float> InputsOf(int span, const Calibration& calibration) {
  for (const LayerInputs& inputs : calibration) {
    if (inputs.span == span) return inputs.values;
  }
  return {};
}

// Returns the bytes written; `due`: see Rounding.
uint64_t EncodeMatrix(const float* from, const v1::WeightSpan& span,
                      uint64_t group, const Rounding& rounding, char* to,
                      std::vector<float>& due) {
  const uint64_t channels = span.channels();
  const uint64_t row = span.size() / channels;
  const uint64_t groups = GroupsOf(span, group);
  std::vector<uint32_t> most(channels * groups);
  uint32_t top = 0;
  for (uint64_t s = 0; s < most.size(); ++s) {
    const uint64_t begin = s % groups * group;
    most[s] = LargestBits(from + s / groups * row + begin,
                          std::min(group, row - begin));
    if (most[s] < kInfinity) top = std::max(top, most[s]);
  }
  float largest = std::bit_cast<float>(top) / kLargest;
  if (largest < kSmallest) largest = 0;
  // The division may have rounded up.
  if (std::isinf(largest * kLargest)) largest = std::nextafter(largest, 0.0F);
  Put<float>(to, 0, largest);
  to += sizeof(float);
  std::vector<float> scales(most.size());
  for (uint64_t s = 0; s < most.size(); ++s) {
    uint8_t k = kNanScale;
    if (most[s] < kInfinity) {
      k = ScaleOf(std::bit_cast<float>(most[s]), largest);
      scales[s] = largest * Fraction(k);
    }
    Put<uint8_t>(to, s, k);
  }
  to += scales.size();
  rounding.Round(from, channels, group, scales.data(),
                 reinterpret_cast<int8_t*>(to), due.data());
  return sizeof(float) + scales.size() + span.size();
}

void EncodeInt8(std::vector<float> values, const WeightLayout& layout,
                const Calibration& calibration, char* to) {
  const Int8Form form = Int8FormOf(layout);
  float* from = values.data();
  for (int i = 0; i < layout.size(); ++i) {
    const uint64_t size = layout[i].size();
    if (!form.integers[i]) {
      for (uint64_t e = 0; e < size; ++e) {
        if (form.floats) {
          Put<float>(to, e, from[e]);
        } else {
          Put<uint16_t>(to, e, ToHalf(from[e]));
        }
      }
      to += size * SmallBytes(form);
      from += size;
      continue;
    }
    const uint64_t channels = layout[i].channels();
    std::vector<float> due(channels);
    to += EncodeMatrix(from, layout[i], form.group,
                       Rounding(InputsOf(i, calibration), size / channels), to,
                       due);
    from += size;
    if (i + 1 < layout.size() && layout[i + 1].channels() == 0 &&
        layout[i + 1].size() == channels) {
      for (uint64_t c = 0; c < channels; ++c) from[c] += due[c];
    }
  }
}

void DecodeInt8(const char* from, const WeightLayout& layout, float* to) {
  const Int8Form form = Int8FormOf(layout);
  for (int i = 0; i < layout.size(); ++i) {
    const uint64_t size = layout[i].size();
    if (!form.integers[i]) {
      for (uint64_t e = 0; e < size; ++e) {
        to[e] = form.floats ? Get<float>(from, e)
                            : FromHalf(Get<uint16_t>(from, e));
      }
      from += size * SmallBytes(form);
      to += size;
      continue;
    }
    const uint64_t channels = layout[i].channels();
    const uint64_t row = size / channels;
    const float largest = Get<float>(from, 0);
    const char* scales = from + sizeof(float);
    const char* q = scales + channels * GroupsOf(layout[i], form.group);
    for (uint64_t c = 0; c < channels; ++c) {
      for (uint64_t begin = 0; begin < row; begin += form.group) {
        const auto k = Get<uint8_t>(scales++, 0);
        const float scale = k == kNanScale
                                ? std::numeric_limits<float>::quiet_NaN()
                                : largest * Fraction(k);
        const uint64_t count = std::min(form.group, row - begin);
        for (uint64_t e = 0; e < count; ++e) to[e] = scale * Get<int8_t>(q, e);
        q += count;
        to += count;
      }
    }
    from = q;
  }
}

}  // namespace

absl::StatusOr<uint64_t> CheckLayout(const WeightLayout& layout) {
  uint64_t elements = 0;
  for (int i = 0; i < layout.size(); ++i) {
    const v1::WeightSpan& span = layout[i];
    if (span.channels() > 0 && span.size() % span.channels() != 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "layout[", i, "].channels = ", span.channels(),
          ": allowed is 0, or what divides its size (", span.size(), ")"));
    }
    // The sum above is checked, and each of its parts: none overflows.
    if (span.size() > kMaxElements - elements) {
      return absl::InvalidArgumentError(absl::StrCat(
          "layout[", i, "].size = ", span.size(), ": allowed is at most ",
          kMaxElements, " with those of the spans before it"));
    }
    if (span.channels() > span.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("layout[", i, "].channels = ", span.channels(),
                       ": allowed is at most its size (", span.size(), ")"));
    }
    elements += span.size();
  }
  return elements;
}

absl::Status CheckCodec(v1::WeightCodec codec) {
  if (v1::WeightCodec_IsValid(codec)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "codec = ", static_cast<int>(codec), ": allowed is FP32, BF16, INT8"));
}

absl::StatusOr<uint64_t> EncodedBytes(const WeightLayout& layout,
                                      v1::WeightCodec codec) {
  QFLEET_RETURN_IF_ERROR(CheckCodec(codec));
  QFLEET_ASSIGN_OR_RETURN(const uint64_t elements, CheckLayout(layout));
  if (codec == v1::FP32) return elements * sizeof(float);
  if (codec == v1::BF16) return elements * sizeof(uint16_t);
  return BytesOf(layout, Int8FormOf(layout));
}

std::vector<bool> IntegerSpans(const WeightLayout& layout) {
  uint64_t elements = 0;
  std::vector<int> matrices;
  for (int i = 0; i < layout.size(); ++i) {
    elements += layout[i].size();
    if (layout[i].channels() > 0) matrices.push_back(i);
  }
  std::stable_sort(matrices.begin(), matrices.end(), [&](int a, int b) {
    return layout[a].size() < layout[b].size();
  });
  std::vector<bool> integers(layout.size());
  uint64_t small = 0;
  for (int i : matrices) {
    small += layout[i].size();
    integers[i] = small > elements / 16;
  }
  return integers;
}

absl::StatusOr<std::string> EncodeWeights(absl::string_view fp32,
                                          const WeightLayout& layout,
                                          v1::WeightCodec codec,
                                          const Calibration& calibration) {
  QFLEET_ASSIGN_OR_RETURN(const uint64_t bytes, EncodedBytes(layout, codec));
  QFLEET_ASSIGN_OR_RETURN(const uint64_t elements, CheckLayout(layout));
  if (fp32.size() != elements * sizeof(float)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "layout of ", elements, " elements: allowed is one of the ",
        fp32.size(), " bytes of parameters, ", sizeof(float), " each"));
  }
  if (codec == v1::FP32 || elements == 0) return std::string(fp32);
  std::string encoded(bytes, '\0');
  if (codec == v1::BF16) {
    for (uint64_t i = 0; i < elements; ++i) {
      Put<uint16_t>(encoded.data(), i, ToBf16(Get<uint32_t>(fp32.data(), i)));
    }
  } else {
    std::vector<float> values(elements);
    std::memcpy(values.data(), fp32.data(), fp32.size());
    EncodeInt8(std::move(values), layout, calibration, encoded.data());
  }
  return encoded;
}

absl::Status CheckEncoded(absl::string_view encoded, const WeightLayout& layout,
                          v1::WeightCodec codec) {
  QFLEET_ASSIGN_OR_RETURN(const uint64_t bytes, EncodedBytes(layout, codec));
  if (encoded.size() == bytes) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      "weights of ", encoded.size(), " bytes: the network has ", bytes,
      codec == v1::FP32 ? ""
                        : absl::StrCat(" as ", v1::WeightCodec_Name(codec))));
}

absl::Status DecodeWeights(absl::string_view encoded,
                           const WeightLayout& layout, v1::WeightCodec codec,
                           absl::Span<float> values) {
  QFLEET_RETURN_IF_ERROR(CheckEncoded(encoded, layout, codec));
  QFLEET_ASSIGN_OR_RETURN(const uint64_t elements, CheckLayout(layout));
  if (elements != values.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("layout of ", elements, " elements: allowed is one of ",
                     values.size()));
  }
  if (elements == 0) return absl::OkStatus();
  switch (codec) {
    case v1::BF16:
      for (uint64_t i = 0; i < elements; ++i) {
        values[i] = std::bit_cast<float>(
            uint32_t{Get<uint16_t>(encoded.data(), i)} << 16);
      }
      break;
    case v1::INT8:
      DecodeInt8(encoded.data(), layout, values.data());
      break;
    default:
      std::memcpy(values.data(), encoded.data(), encoded.size());
  }
  return absl::OkStatus();
}

}  // namespace qfleet
