#include "replay_server/core/storage.h"

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

TEST(AnonymousStorageTest, RegionsAreZeroAlignedAndApart) {
  AnonymousStorage storage;
  for (uint64_t bytes : {uint64_t{0}, uint64_t{1}, uint64_t{100000}}) {
    auto region = storage.Region(absl::StrCat("r", bytes), bytes);
    ASSERT_TRUE(region.ok()) << region.status();
    EXPECT_EQ(reinterpret_cast<uintptr_t>(*region) % 64, 0u);
    for (uint64_t i = 0; i < bytes; ++i) ASSERT_EQ((*region)[i], 0) << i;
    for (uint64_t i = 0; i < bytes; ++i) (*region)[i] = 1;
  }
}

// A table may be bigger than what is used of it.
TEST(AnonymousStorageTest, UntouchedPagesCostNothing) {
  AnonymousStorage storage;
  auto region = storage.Region("big", uint64_t{1} << 36);
  ASSERT_TRUE(region.ok()) << region.status();
  (*region)[(uint64_t{1} << 36) - 1] = 7;
}

TEST(AnonymousStorageTest, NoRoomNamesRegionAndBytes) {
  AnonymousStorage storage;
  auto region = storage.Region("steps", uint64_t{1} << 62);
  ASSERT_EQ(region.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(region.status().message()),
              testing::AllOf(testing::HasSubstr("\"steps\""),
                             testing::HasSubstr("4611686018427387904")));
}

}  // namespace
}  // namespace qfleet
