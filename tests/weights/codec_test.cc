#include "weights/codec.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "common/hash.h"
#include "common/random.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "weights/publication.h"

namespace qfleet {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

WeightLayout Layout(std::vector<std::pair<uint64_t, uint64_t>> spans) {
  WeightLayout layout;
  for (const auto& [size, channels] : spans) {
    v1::WeightSpan& span = *layout.Add();
    span.set_size(size);
    span.set_channels(channels);
  }
  return layout;
}

std::string Bytes(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()),
          values.size() * sizeof(float)};
}

std::vector<float> RoundTrip(const std::vector<float>& values,
                             const WeightLayout& layout,
                             v1::WeightCodec codec) {
  auto encoded = EncodeWeights(Bytes(values), layout, codec);
  EXPECT_TRUE(encoded.ok()) << encoded.status();
  std::vector<float> decoded(values.size(), -77);
  absl::Status status =
      DecodeWeights(*encoded, layout, codec, absl::MakeSpan(decoded));
  EXPECT_TRUE(status.ok()) << status;
  return decoded;
}

// w [3, 2], bias [3], of weights that need no rounding but where noted.
const std::vector<float> kWeights = {1.27F, -0.64F, 0, 0, -254, 3, 5, -6, 7.5F};

TEST(WeightCodecTest, Int8IsScalesThenElementsThenTheBiasAsHalves) {
  auto encoded =
      EncodeWeights(Bytes(kWeights), Layout({{6, 3}, {3, 0}}), v1::INT8);
  ASSERT_TRUE(encoded.ok());
  ASSERT_EQ(encoded->size(), 4 + 3 + 6 + 3 * 2u);
  float largest;
  uint8_t scales[3];
  int8_t q[6];
  uint16_t bias[3];
  std::memcpy(&largest, encoded->data(), 4);
  std::memcpy(scales, encoded->data() + 4, 3);
  std::memcpy(q, encoded->data() + 7, 6);
  std::memcpy(bias, encoded->data() + 13, 6);
  EXPECT_EQ(largest, 2);  // 254 / 127.
  // 1.27 is 200 times less: 16 log2(200) = 122.3. Zeros have any scale.
  EXPECT_THAT(scales, ElementsAre(122, 254, 0));
  // The channel's scale is 2 * 2^(-122 / 16) = 0.010137; 3 / 2 is a tie, which
  // goes to the even number.
  EXPECT_THAT(q, ElementsAre(125, -63, 0, 0, -127, 2));
  EXPECT_THAT(bias, ElementsAre(0x4500, 0xc600, 0x4780));
}

// w [4, 200], bias [4]: 3,216 bytes as FP32, of which 868 are within 27 %. With
// one scale a channel and float32 for the bias it has 4 + 4 + 800 + 16 = 824,
// with groups of 16 872, with groups of 32 848.
TEST(WeightCodecTest, Int8HasAScaleForEachGroupOfAChannelWhereTheyFit) {
  const WeightLayout layout = Layout({{800, 4}, {4, 0}});
  std::vector<float> values(804);
  for (size_t i = 0; i < 800; ++i) {
    // Group g of each channel is 2^-g of the first.
    const float scale = std::ldexp(1.0F, -static_cast<int>(i % 200 / 32));
    values[i] = scale * (static_cast<float>(i % 200 % 32 * 4) + 3.0F);
  }
  values[32] = 127 / 2.0F;
  for (size_t i = 800; i < 804; ++i) values[i] = 0.1F;
  auto encoded = EncodeWeights(Bytes(values), layout, v1::INT8);
  ASSERT_TRUE(encoded.ok());
  ASSERT_EQ(encoded->size(), 848u);
  float largest;
  uint8_t scales[4][7];
  int8_t q[4][200];
  float bias[4];
  std::memcpy(&largest, encoded->data(), 4);
  std::memcpy(scales, encoded->data() + 4, 28);
  std::memcpy(q, encoded->data() + 32, 800);
  std::memcpy(bias, encoded->data() + 832, 16);
  EXPECT_EQ(largest, 1);
  for (int c = 0; c < 4; ++c) {
    // The last group has 8 weights, the largest of them 31 * 2^-6: two octaves
    // and a bit more than the 96 of six.
    EXPECT_THAT(scales[c], ElementsAre(0, 16, 32, 48, 64, 80, 128));
    EXPECT_EQ(q[c][31], 127);
    EXPECT_EQ(q[c][33], 7);
    EXPECT_EQ(q[c][200 - 8], 12);
    EXPECT_EQ(bias[c], 0.1F);
  }
  EXPECT_EQ(q[0][32], 127);
  EXPECT_EQ(q[1][32], 3);
  const std::vector<float> decoded = RoundTrip(values, layout, v1::INT8);
  EXPECT_EQ(std::vector<float>(&decoded[0], &decoded[192]),
            std::vector<float>(&values[0], &values[192]));
}

// Matrices of several widths have one group, which fits none or all; the row
// that is shorter than it is one.
TEST(WeightCodecTest, Int8OfSeveralMatricesHasOneGroup) {
  const WeightLayout layout = Layout(
      {{512, 64}, {64, 0}, {65536, 256}, {256, 0}, {16384, 2048}, {2048, 0}});
  constexpr uint64_t kElements = 84800;
  Random random(17);
  std::vector<float> values(kElements);
  for (float& value : values) {
    value = static_cast<float>(random.Uniform(-1, 1));
  }
  // Halves, groups of 64: 27 % are 91,584 bytes, and of 32 there would be
  // 91,784.
  ASSERT_EQ(
      *EncodedBytes(layout, v1::INT8),
      2 * (512 + 64 + 256 + 2048) + 4 + 256 * 4 + 65536 + 4 + 2048 + 16384u);
  const std::vector<float> decoded = RoundTrip(values, layout, v1::INT8);
  for (uint64_t i = 0; i < kElements; ++i) {
    const bool small = i < 576 || (i >= 66112 && i < 66368) || i >= 82752;
    // A half has 11 bits of at most 1; a scale is at most 2^(1/16) / 127.
    ASSERT_NEAR(decoded[i], values[i], small ? 0x1p-12 : 0.523 / 127) << i;
  }
  // The widest is what decides, wherever it is.
  EXPECT_EQ(
      *EncodedBytes(Layout({{65536, 256}, {256, 0}, {8192, 1024}}), v1::INT8),
      4 * 256 + 4 + 256 * 16 + 65536 + 4 + 1024 + 8192u);
}

TEST(WeightCodecTest, TiesGoToTheEvenNumber) {
  const std::vector<float> values = {127,   0.5F,  1.5F,  2.5F,
                                     -0.5F, -1.5F, 126.5F};
  EXPECT_THAT(RoundTrip(values, Layout({{7, 1}}), v1::INT8),
              ElementsAre(127, 0, 2, 2, 0, -2, 126));
}

// As numpy's and LibTorch's float32 -> float16.
TEST(WeightCodecTest, SmallSpansAreRoundedToHalvesToNearestEven) {
  struct Case {
    float from;
    uint16_t to;
  };
  for (const Case& c : std::vector<Case>{{0, 0},
                                         {-0.0F, 0x8000},
                                         {1, 0x3c00},
                                         {-2, 0xc000},
                                         {65504, 0x7bff},
                                         {65519.996F, 0x7bff},
                                         {65520, 0x7c00},  // A tie: to even.
                                         {-1e30F, 0xfc00},
                                         {kInf, 0x7c00},
                                         {0x1p-14F, 0x0400},  // Least normal.
                                         {0x1.ff8p-15F, 0x03ff},
                                         {0x1.ffcp-15F, 0x0400},  // A tie.
                                         {0x1p-24F, 0x0001},
                                         {0x1p-25F, 0x0000},  // A tie.
                                         {0x1.8p-24F, 0x0002},
                                         {1 + 0x1p-11F, 0x3c00},
                                         {1 + 0x1.8p-10F, 0x3c02},
                                         {0.1F, 0x2e66},
                                         {1.0F / 3, 0x3555}}) {
    auto encoded = EncodeWeights(Bytes({c.from}), Layout({{1, 0}}), v1::INT8);
    ASSERT_TRUE(encoded.ok());
    uint16_t to;
    ASSERT_EQ(encoded->size(), sizeof(to));
    std::memcpy(&to, encoded->data(), sizeof(to));
    EXPECT_EQ(to, c.to) << c.from << " became " << std::hex << to;
  }
  // Each half is itself.
  for (uint32_t half = 0; half < 0x10000; ++half) {
    const auto bits = static_cast<uint16_t>(half);
    std::string bytes(reinterpret_cast<const char*>(&bits), sizeof(bits));
    std::vector<float> value(1);
    ASSERT_TRUE(
        DecodeWeights(bytes, Layout({{1, 0}}), v1::INT8, absl::MakeSpan(value))
            .ok());
    if (std::isnan(value[0])) {
      EXPECT_GT(half & 0x7fff, 0x7c00u);
      continue;
    }
    EXPECT_EQ(*EncodeWeights(Bytes(value), Layout({{1, 0}}), v1::INT8), bytes);
  }
}

// The smallest matrices are those that have at most a 16th together.
TEST(WeightCodecTest, SmallMatricesAreNotRoundedToIntegers) {
  EXPECT_THAT(
      IntegerSpans(Layout(
          {{512, 128}, {128, 0}, {16384, 128}, {128, 0}, {384, 3}, {3, 0}})),
      ElementsAre(false, false, true, false, false, false));
  // 16 equal ones: the first.
  EXPECT_THAT(IntegerSpans(Layout(
                  std::vector<std::pair<uint64_t, uint64_t>>(16, {32, 4}))),
              ElementsAre(false, true, true, true, true, true, true, true, true,
                          true, true, true, true, true, true, true));
  EXPECT_THAT(IntegerSpans(Layout({{6, 3}, {3, 0}})), ElementsAre(true, false));
  EXPECT_THAT(IntegerSpans({}), testing::IsEmpty());
}

// As numpy's, ml_dtypes' and LibTorch's float32 -> bfloat16.
TEST(WeightCodecTest, Bf16IsRoundedToNearestEven) {
  struct Case {
    uint32_t from;
    uint16_t to;
  };
  for (const Case& c :
       std::vector<Case>{{0x3f800000, 0x3f80},  // 1
                         {0x3f808000, 0x3f80},  // A tie, to even: down.
                         {0x3f818000, 0x3f82},  // A tie, to even: up.
                         {0x3f808001, 0x3f81},
                         {0x3f807fff, 0x3f80},
                         {0xbf818000, 0xbf82},
                         {0x00000000, 0x0000},
                         {0x80000000, 0x8000},
                         {0x00008001, 0x0001},  // Subnormal.
                         {0x7f7fffff, 0x7f80},  // The largest: infinite.
                         {0x7f800000, 0x7f80},
                         {0xff800000, 0xff80},
                         {0x7fc00000, 0x7fc0},
                         {0x7f800001, 0x7fc0},  // NaN's only bit is cut off.
                         {0xffffffff, 0xffff}}) {
    auto encoded = EncodeWeights(Bytes({std::bit_cast<float>(c.from)}),
                                 Layout({{1, 0}}), v1::BF16);
    ASSERT_TRUE(encoded.ok());
    uint16_t to;
    ASSERT_EQ(encoded->size(), sizeof(to));
    std::memcpy(&to, encoded->data(), sizeof(to));
    EXPECT_EQ(to, c.to) << std::hex << c.from << " became " << to;
  }
  EXPECT_THAT(RoundTrip(kWeights, Layout({{6, 3}, {3, 0}}), v1::BF16),
              ElementsAre(1.2734375F, -0.640625F, 0, 0, -254, 3, 5, -6, 7.5F));
}

TEST(WeightCodecTest, Fp32IsTheVectorItself) {
  const std::vector<float> values = {1, -kInf, 3e-45F};
  auto encoded =
      EncodeWeights(Bytes(values), Layout({{2, 1}, {1, 0}}), v1::FP32);
  ASSERT_TRUE(encoded.ok());
  EXPECT_EQ(*encoded, Bytes(values));
  EXPECT_EQ(RoundTrip(values, Layout({{2, 1}, {1, 0}}), v1::FP32), values);
}

// Of any size: rows of 1 to 40, magnitudes over 58 orders, channels a thousand
// times smaller than the largest.
TEST(WeightCodecTest, Int8IsOffByHalfAScaleAtMost) {
  Random random(11);
  for (int round = 0; round < 200; ++round) {
    const uint64_t row = 1 + random.Below(40);
    const double magnitude = std::pow(10, random.Uniform(-28, 30));
    std::vector<float> values(3 * row);
    for (size_t i = 0; i < values.size(); ++i) {
      const double channel = i < row ? 1e-3 : 1;
      values[i] =
          static_cast<float>(random.Uniform(-1, 1) * channel * magnitude);
    }
    const std::vector<float> decoded =
        RoundTrip(values, Layout({{3 * row, 3}}), v1::INT8);
    for (uint64_t c = 0; c < 3; ++c) {
      double most = 0;
      for (uint64_t i = 0; i < row; ++i) {
        most = std::max(most, std::abs(double{values[c * row + i]}));
      }
      // Of a channel with room for 127: up to a 16th of an octave above.
      const double scale = most / 127 * std::exp2(1.0 / 16);
      for (uint64_t i = c * row; i < (c + 1) * row; ++i) {
        // Float32's own roundings are 2^-24 of numbers up to 127 scales.
        ASSERT_LE(std::abs(double{values[i]} - decoded[i]),
                  scale * (0.5 + 127 * 0x1p-22))
            << "element " << i << " of round " << round;
      }
    }
  }
}

TEST(WeightCodecTest, WhatIsNotFiniteMakesItsGroupNanAndNoOther) {
  for (float bad : {kNan, -kNan, kInf, -kInf}) {
    const std::vector<float> decoded =
        RoundTrip({1, bad, 2, 1, bad}, Layout({{4, 2}, {1, 0}}), v1::INT8);
    EXPECT_TRUE(std::isnan(decoded[0]) && std::isnan(decoded[1]));
    EXPECT_THAT(decoded[2], 2);
    EXPECT_NEAR(decoded[3], 1, 1.0 / 127);
    EXPECT_EQ(std::isnan(decoded[4]), std::isnan(bad));
    const std::vector<float> half =
        RoundTrip({1, bad}, Layout({{2, 1}}), v1::BF16);
    EXPECT_EQ(half[0], 1);
    EXPECT_EQ(std::isnan(half[1]), std::isnan(bad));
    EXPECT_EQ(std::isinf(half[1]), std::isinf(bad));
    // Groups of 16: the third.
    std::vector<float> values(800, 3);
    values[40] = bad;
    const std::vector<float> groups =
        RoundTrip(values, Layout({{800, 4}}), v1::INT8);
    for (size_t i = 0; i < values.size(); ++i) {
      EXPECT_EQ(std::isnan(groups[i]), i >= 32 && i < 48) << i;
    }
  }
}

TEST(WeightCodecTest, TheLargestAndTheSmallestNumbersStayFinite) {
  const float largest = std::numeric_limits<float>::max();
  std::vector<float> decoded =
      RoundTrip({largest, -largest}, Layout({{2, 1}}), v1::INT8);
  EXPECT_NEAR(decoded[0] / largest, 1, 1e-6);
  EXPECT_NEAR(decoded[1] / largest, -1, 1e-6);
  // Scales far below it would have few bits or none.
  decoded = RoundTrip({1e-45F, 1e-31F, -1e-38F}, Layout({{3, 1}}), v1::INT8);
  EXPECT_THAT(decoded, Each(0));
  decoded = RoundTrip({2e-30F, 0, -1e-30F}, Layout({{3, 1}}), v1::INT8);
  EXPECT_NEAR(decoded[2] / -1e-30F, 1, 0.01);
}

// Layouts of networks that are trained, and the 27 % that INT8 has of float32:
// small spans, the matrix's integers and `largest`, scales.
TEST(WeightCodecTest, BytesOfRealNetworks) {
  struct Case {
    const char* what;
    WeightLayout layout;
    uint64_t elements;
    uint64_t int8;
  };
  for (const Case& c : std::vector<Case>{
           {"CartPole, 256 256, dueling",
            Layout({{4 * 256, 256},
                    {256, 0},
                    {256 * 256, 256},
                    {256, 0},
                    {256 * 3, 3},
                    {3, 0}}),
            67843, 2 * 2307 + 65536 + 4 + 256 * 256 / 32},
           {"CartPole, 128 128, dueling",
            Layout({{4 * 128, 128},
                    {128, 0},
                    {128 * 128, 128},
                    {128, 0},
                    {128 * 3, 3},
                    {3, 0}}),
            17539, 2 * 1155 + 16384 + 4 + 128},
           {"MinAtar Breakout, 16@3, 128",
            Layout({{4 * 9 * 16, 16},
                    {16, 0},
                    {1024 * 128, 128},
                    {128, 0},
                    {128 * 4, 4},
                    {4, 0}}),
            132308, 4 * 1236 + 131072 + 4 + 128 * 1024 / 32},
           {"Atari (Mnih et al. 2015), 18 actions",
            Layout({{4 * 64 * 32, 32},
                    {32, 0},
                    {32 * 16 * 64, 64},
                    {64, 0},
                    {64 * 9 * 64, 64},
                    {64, 0},
                    {3136 * 512, 512},
                    {512, 0},
                    {512 * 18, 18},
                    {18, 0}}),
            1693362, 2 * 87730 + 1605632 + 4 + 512 * 3136 / 64}}) {
    auto fp32 = EncodedBytes(c.layout, v1::FP32);
    ASSERT_TRUE(fp32.ok());
    EXPECT_EQ(*fp32, 4 * c.elements) << c.what;
    EXPECT_EQ(2 * *EncodedBytes(c.layout, v1::BF16), *fp32) << c.what;
    EXPECT_EQ(*EncodedBytes(c.layout, v1::INT8), c.int8) << c.what;
    EXPECT_LE(c.int8 * 100, *fp32 * 27) << c.what;
  }
}

TEST(WeightCodecTest, HostileLayoutsAreRefused) {
  constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
  struct Case {
    WeightLayout layout;
    const char* words;
  };
  for (const Case& c : std::vector<Case>{
           {Layout({{kMost, 0}}), "layout[0].size = 18446744073709551615"},
           {Layout({{kMost, 1}}), "layout[0].size"},
           {Layout({{kMost, kMost}}), "layout[0].size"},
           // Their sum, and four times it, would be small numbers again.
           {Layout({{uint64_t{1} << 63, 0}, {uint64_t{1} << 63, 0}}), "size"},
           {Layout({{uint64_t{1} << 62, 0}}), "size"},
           {Layout({{8, 0}, {(uint64_t{1} << 32) - 7, 0}}),
            "layout[1].size = 4294967289: allowed is at most 4294967296"},
           {Layout({{6, 4}}),
            "layout[0].channels = 4: allowed is 0, or what divides its size"},
           {Layout({{2, 4}}), "layout[0].channels = 4"},
           {Layout({{0, 4}}), "layout[0].channels = 4: allowed is at most"},
           {Layout({{4, kMost}}), "layout[0].channels"}}) {
    for (v1::WeightCodec codec : {v1::FP32, v1::BF16, v1::INT8}) {
      const std::string bytes(16, 'x');
      std::vector<float> values(4, -7);
      for (const absl::Status& status :
           {EncodeWeights(bytes, c.layout, codec).status(),
            DecodeWeights(bytes, c.layout, codec, absl::MakeSpan(values))}) {
        EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
        EXPECT_THAT(std::string(status.message()), HasSubstr(c.words));
      }
      EXPECT_THAT(values, Each(-7));
    }
  }
}

TEST(WeightCodecTest, WrongSizesAreSaidAndNothingIsWritten) {
  const WeightLayout layout = Layout({{4, 2}, {2, 0}});
  for (v1::WeightCodec codec : {v1::FP32, v1::BF16, v1::INT8}) {
    const uint64_t bytes = *EncodedBytes(layout, codec);
    for (uint64_t size : {uint64_t{0}, bytes - 1, bytes + 1, 10 * bytes}) {
      std::vector<float> values(6, -7);
      absl::Status status = DecodeWeights(std::string(size, '\0'), layout,
                                          codec, absl::MakeSpan(values));
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
      EXPECT_THAT(values, Each(-7));
    }
    std::vector<float> few(5, -7);
    EXPECT_EQ(DecodeWeights(std::string(bytes, '\0'), layout, codec,
                            absl::MakeSpan(few))
                  .code(),
              absl::StatusCode::kInvalidArgument);
    for (size_t size : {0, 23, 25}) {
      EXPECT_EQ(
          EncodeWeights(std::string(size, '\0'), layout, codec).status().code(),
          absl::StatusCode::kInvalidArgument);
    }
  }
  EXPECT_EQ(
      DecodeWeights(std::string(17, '\0'), layout, v1::INT8, {}).message(),
      "weights of 17 bytes: the network has 14 as INT8");
  const auto unknown = static_cast<v1::WeightCodec>(3);
  EXPECT_EQ(EncodeWeights("", {}, unknown).status().message(),
            "codec = 3: allowed is FP32, BF16, INT8");
}

TEST(WeightCodecTest, NothingIsSomethingToo) {
  for (v1::WeightCodec codec : {v1::FP32, v1::BF16, v1::INT8}) {
    EXPECT_EQ(*EncodeWeights("", {}, codec), "");
    EXPECT_EQ(DecodeWeights("", Layout({{0, 0}}), codec, {}), absl::OkStatus());
  }
}

// Any bytes of the right size are some vector.
TEST(WeightCodecTest, AnyBytesDecode) {
  Random random(5);
  for (int round = 0; round < 200; ++round) {
    WeightLayout layout;
    uint64_t elements = 0;
    for (int s = 0; s < 4; ++s) {
      const uint64_t channels = random.Below(5);
      const uint64_t size =
          channels == 0 ? random.Below(9) : channels * (1 + random.Below(9));
      elements += size;
      layout.MergeFrom(Layout({{size, channels}}));
    }
    for (v1::WeightCodec codec : {v1::FP32, v1::BF16, v1::INT8}) {
      std::string bytes(*EncodedBytes(layout, codec), '\0');
      for (char& byte : bytes) byte = static_cast<char>(random.Bits());
      std::vector<float> values(elements);
      EXPECT_EQ(DecodeWeights(bytes, layout, codec, absl::MakeSpan(values)),
                absl::OkStatus());
    }
  }
}

TEST(PublicationTest, AnotherFormHasItsOwnHashAndAllElse) {
  v1::Publication fp32;
  fp32.set_version(7);
  fp32.set_updates(70);
  fp32.set_env_steps(700);
  fp32.set_network("n");
  *fp32.mutable_layout() = Layout({{6, 3}, {3, 0}});
  fp32.set_parameters(Bytes(kWeights));
  fp32.set_hash(Hash64(fp32.parameters()));
  for (v1::WeightCodec codec : {v1::FP32, v1::BF16, v1::INT8}) {
    auto encoded = EncodePublication(fp32, codec);
    ASSERT_TRUE(encoded.ok());
    EXPECT_EQ(encoded->codec(), codec);
    EXPECT_EQ(encoded->hash(), Hash64(encoded->parameters()));
    EXPECT_EQ(CheckWhole(*encoded, fp32.layout()), absl::OkStatus());
    v1::Publication rest = *encoded;
    rest.set_codec(v1::FP32);
    rest.set_hash(fp32.hash());
    rest.set_parameters(fp32.parameters());
    EXPECT_EQ(rest.SerializeAsString(), fp32.SerializeAsString());
    (*encoded->mutable_parameters())[5] ^= 1;
    EXPECT_EQ(CheckWhole(*encoded, fp32.layout()).code(),
              absl::StatusCode::kDataLoss);
  }
}

}  // namespace
}  // namespace qfleet
