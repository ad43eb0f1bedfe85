#include "weights/codec.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace qfleet {
namespace {

static_assert(std::endian::native == std::endian::little);

// Of a vector; a message holds fewer.
constexpr uint64_t kMaxElements = uint64_t{1} << 32;
constexpr uint32_t kInfinity = 0x7f800000;  // Above it: NaN.
constexpr float kLargest = 127;

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

// The scale of a channel whose weights are at most `most`, in bits of a float.
float ScaleOf(uint32_t most) {
  if (most >= kInfinity) return std::numeric_limits<float>::quiet_NaN();
  float scale = std::bit_cast<float>(most) / kLargest;
  if (scale < std::numeric_limits<float>::min()) return 0;
  // The division may have rounded up.
  if (std::isinf(scale * kLargest)) scale = std::nextafter(scale, 0.0F);
  return scale;
}

// Of finite x with |x| below 2^21: to nearest even. Adding moves the whole
// number to the lowest bits of the sum; unlike lrintf() it is a vector's
// operation everywhere.
int8_t Round(float x) {
  constexpr float kShift = 0x1.8p23F;
  return static_cast<int8_t>(std::bit_cast<int32_t>(x + kShift) -
                             std::bit_cast<int32_t>(kShift));
}

// Returns the scale.
float EncodeChannel(const char* from, uint64_t size, char* to) {
  // Floats without their signs are ordered as integers are, NaN above all.
  int32_t most = 0;
  for (uint64_t i = 0; i < size; ++i) {
    most = std::max(most, Get<int32_t>(from, i) & 0x7fffffff);
  }
  const float scale = ScaleOf(static_cast<uint32_t>(most));
  if (!(scale > 0)) {  // All zeros, or all NaN.
    std::memset(to, 0, size);
    return scale;
  }
  for (uint64_t i = 0; i < size; ++i) {
    Put<int8_t>(to, i, Round(Get<float>(from, i) / scale));
  }
  return scale;
}

void EncodeInt8(const char* from, const WeightLayout& layout, char* to) {
  for (const v1::WeightSpan& span : layout) {
    const uint64_t bytes = span.size() * sizeof(float);
    if (span.channels() == 0) {
      std::memcpy(to, from, bytes);
      from += bytes;
      to += bytes;
      continue;
    }
    const uint64_t row = span.size() / span.channels();
    char* const q = to + span.channels() * sizeof(float);
    for (uint64_t c = 0; c < span.channels(); ++c) {
      Put<float>(
          to, c,
          EncodeChannel(from + c * row * sizeof(float), row, q + c * row));
    }
    from += bytes;
    to = q + span.size();
  }
}

void DecodeInt8(const char* from, const WeightLayout& layout, float* to) {
  for (const v1::WeightSpan& span : layout) {
    if (span.channels() == 0) {
      const uint64_t bytes = span.size() * sizeof(float);
      if (bytes > 0) std::memcpy(to, from, bytes);
      from += bytes;
      to += span.size();
      continue;
    }
    const uint64_t row = span.size() / span.channels();
    const char* q = from + span.channels() * sizeof(float);
    for (uint64_t c = 0; c < span.channels(); ++c) {
      const float scale = Get<float>(from, c);
      for (uint64_t i = 0; i < row; ++i) to[i] = scale * Get<int8_t>(q, i);
      q += row;
      to += row;
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
  uint64_t bytes = 0;
  for (const v1::WeightSpan& span : layout) {
    bytes += span.channels() > 0 ? span.channels() * sizeof(float) + span.size()
                                 : span.size() * sizeof(float);
  }
  return bytes;
}

absl::StatusOr<std::string> EncodeWeights(absl::string_view fp32,
                                          const WeightLayout& layout,
                                          v1::WeightCodec codec) {
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
    EncodeInt8(fp32.data(), layout, encoded.data());
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
