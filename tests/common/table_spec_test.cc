#include "common/table_spec.h"

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

v1::TableSpec GoodSpec() {
  v1::TableSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      R"(name: "train"
         signature {
           step_columns { name: "frame" dtype: UINT8 shape: 84 shape: 84 }
           step_columns { name: "goal" dtype: FLOAT32 shape: 3 }
           item_columns { name: "action" dtype: INT64 }
           views { name: "observation" column: "frame" anchor: FIRST stack: 4 }
           views { name: "goal" column: "goal" anchor: LAST }
         }
         selector { alpha: 0.6 epsilon: 0.01 }
         max_items: 1000
         max_bytes: 1000000
         rate_limiter { samples_per_insert: 8 tolerance: 100 min_size: 10 })",
      &spec));
  return spec;
}

v1::TensorSpec Tensor(v1::DType dtype, std::vector<int64_t> shape) {
  v1::TensorSpec spec;
  spec.set_dtype(dtype);
  for (int64_t dimension : shape) spec.add_shape(dimension);
  return spec;
}

TEST(TensorSpecTest, RowBytesAreElementsTimesShape) {
  EXPECT_EQ(RowBytes(Tensor(v1::UINT8, {84, 84})), 7056);
  EXPECT_EQ(RowBytes(Tensor(v1::INT32, {})), 4);
  EXPECT_EQ(RowBytes(Tensor(v1::INT64, {2, 3})), 48);
  EXPECT_EQ(RowBytes(Tensor(v1::FLOAT32, {1, 1, 5})), 20);
  EXPECT_EQ(RowBytes(Tensor(v1::FLOAT64, {2})), 16);
  EXPECT_EQ(DTypeBytes(v1::DTYPE_UNSPECIFIED), 0);
}

TEST(TensorSpecTest, TypeNames) {
  EXPECT_EQ(TensorTypeName(Tensor(v1::UINT8, {84, 84})), "uint8[84,84]");
  EXPECT_EQ(TensorTypeName(Tensor(v1::INT64, {})), "int64[]");
}

TEST(TensorSpecTest, ViewHasAStackDimensionOnlyWhereItStacks) {
  const v1::TableSignature signature = GoodSpec().signature();
  EXPECT_EQ(TensorTypeName(ViewTensor(signature, signature.views(0))),
            "uint8[4,84,84]");
  EXPECT_EQ(TensorTypeName(ViewTensor(signature, signature.views(1))),
            "float32[3]");
  EXPECT_EQ(ViewTensor(signature, signature.views(0)).name(), "observation");
}

TEST(ValidateTableSpecTest, AcceptsAGoodSpecAndItsDefaults) {
  EXPECT_TRUE(ValidateTableSpec(GoodSpec(), "t").ok())
      << ValidateTableSpec(GoodSpec(), "t");
  v1::TableSpec spec = GoodSpec();
  spec.clear_rate_limiter();  // No limit.
  spec.clear_selector();
  spec.mutable_signature()->clear_item_columns();
  spec.mutable_signature()->clear_views();
  EXPECT_TRUE(ValidateTableSpec(spec, "t").ok());
}

TEST(ValidateTableSpecTest, NamesFieldValueAndWhatIsAllowed) {
  struct Case {
    std::string field;
    std::string value;
    std::function<void(v1::TableSpec&)> damage;
  };
  const double kNan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<Case> cases = {
      {"t.name", "\"\"", [](auto& s) { s.clear_name(); }},
      {"t.name", "\"Train\"", [](auto& s) { s.set_name("Train"); }},
      {"t.name", "\"a-b\"", [](auto& s) { s.set_name("a-b"); }},
      {"t.name", "aaaa", [](auto& s) { s.set_name(std::string(65, 'a')); }},
      {"t.signature.step_columns", "empty",
       [](auto& s) { s.mutable_signature()->clear_step_columns(); }},
      {"t.signature.step_columns[1].name", "\"frame\"",
       [](auto& s) {
         s.mutable_signature()->mutable_step_columns(1)->set_name("frame");
       }},
      {"t.signature.step_columns[0].dtype", "0",
       [](auto& s) {
         s.mutable_signature()->mutable_step_columns(0)->clear_dtype();
       }},
      {"t.signature.step_columns[0].shape", "uint8[84,0]",
       [](auto& s) {
         s.mutable_signature()->mutable_step_columns(0)->set_shape(1, 0);
       }},
      {"t.signature.step_columns[0].shape", "1073741824",
       [](auto& s) {
         s.mutable_signature()->mutable_step_columns(0)->set_shape(1, 1 << 30);
       }},
      {"t.signature.item_columns[0].shape", "9 dimensions",
       [](auto& s) {
         auto& column = *s.mutable_signature()->mutable_item_columns(0);
         for (int i = 0; i < 9; ++i) column.add_shape(1);
       }},
      // Sampled columns share one set of names.
      {"t.signature.views[1].name", "\"action\"",
       [](auto& s) {
         s.mutable_signature()->mutable_views(1)->set_name("action");
       }},
      {"t.signature.views[0].column", "\"nothing\"",
       [](auto& s) {
         s.mutable_signature()->mutable_views(0)->set_column("nothing");
       }},
      {"t.signature.views[0].anchor", "0",
       [](auto& s) {
         s.mutable_signature()->mutable_views(0)->clear_anchor();
       }},
      {"t.signature.views[0].stack", "65",
       [](auto& s) { s.mutable_signature()->mutable_views(0)->set_stack(65); }},
      {"t.selector.alpha", "-0.1",
       [](auto& s) { s.mutable_selector()->set_alpha(-0.1); }},
      {"t.selector.epsilon", "nan",
       [&](auto& s) { s.mutable_selector()->set_epsilon(kNan); }},
      {"t.selector.kind", "9",
       [](auto& s) {
         s.mutable_selector()->set_kind(static_cast<v1::Selector::Kind>(9));
       }},
      {"t.remover", "7",
       [](auto& s) { s.set_remover(static_cast<v1::Remover>(7)); }},
      {"t.max_items", "0", [](auto& s) { s.set_max_items(0); }},
      {"t.max_items", "4294967281",
       [](auto& s) { s.set_max_items(4294967281); }},
      {"t.rate_limiter.samples_per_insert", "-1",
       [](auto& s) { s.mutable_rate_limiter()->set_samples_per_insert(-1); }},
      {"t.rate_limiter.tolerance", "0",
       [](auto& s) { s.mutable_rate_limiter()->set_tolerance(0); }},
  };
  for (const Case& bad : cases) {
    v1::TableSpec spec = GoodSpec();
    bad.damage(spec);
    const absl::Status status = ValidateTableSpec(spec, "t");
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.field;
    EXPECT_THAT(std::string(status.message()),
                AllOf(testing::StartsWith(bad.field + " = "),
                      HasSubstr(bad.value), HasSubstr(": allowed is ")));
  }
}

TEST(CheckSameSignatureTest, EqualSignaturesAreOk) {
  v1::TableSignature ours = GoodSpec().signature();
  v1::TableSignature theirs = ours;
  EXPECT_TRUE(CheckSameSignature(ours, theirs, "the writer").ok());
  // A stack of 0 means 1.
  theirs.mutable_views(1)->set_stack(1);
  EXPECT_TRUE(CheckSameSignature(ours, theirs, "the writer").ok());
}

TEST(CheckSameSignatureTest, SaysInWordsWhatDiffers) {
  const v1::TableSignature ours = GoodSpec().signature();
  v1::TableSignature theirs = ours;
  theirs.mutable_step_columns(1)->set_shape(0, 4);
  theirs.mutable_item_columns()->RemoveLast();
  theirs.mutable_views(0)->set_stack(3);
  const absl::Status status = CheckSameSignature(ours, theirs, "the writer");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(),
            "signature: "
            "step_columns[1] is (goal float32[3]) here and (goal float32[4]) "
            "at the writer; "
            "item_columns[0] is (action int64[]) here and (nothing) at the "
            "writer; "
            "views[0] is (observation = FIRST frame stack 4) here and "
            "(observation = FIRST frame stack 3) at the writer");
}

TEST(CheckSameSignatureTest, OrderMatters) {
  v1::TableSignature ours = GoodSpec().signature();
  v1::TableSignature theirs = ours;
  theirs.mutable_step_columns()->SwapElements(0, 1);
  EXPECT_FALSE(CheckSameSignature(ours, theirs, "the sampler").ok());
}

}  // namespace
}  // namespace qfleet
