#include "replay_server/core/storage.h"

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "common/framed_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "replay_server/core/data_directory.h"
#include "replay_server/core/table_header.h"
#include "tests/replay_server/core/table_model.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

v1::TableHeader HeaderOf(const v1::TableSpec& spec, uint32_t shard = 0) {
  auto header = MakeTableHeader(spec, shard, 7);
  EXPECT_TRUE(header.ok()) << header.status();
  return *header;
}

v1::TableHeader SmallHeader() { return HeaderOf(ModelSpec(100, 1 << 20)); }

void ExpectZeroAndAligned(const Storage::Mapped& mapped) {
  ASSERT_EQ(mapped.regions.size(), size_t{kRegionCount});
  for (int r = 0; r < kRegionCount; ++r) {
    char* region = mapped.regions[r];
    EXPECT_EQ(reinterpret_cast<uintptr_t>(region) % 64, 0u);
    const uint64_t bytes = mapped.header.regions(r).bytes();
    for (uint64_t i = 0; i < bytes; ++i) ASSERT_EQ(region[i], 0) << i;
    std::memset(region, 1, bytes);  // And apart from the others.
  }
}

TEST(AnonymousStorageTest, RegionsAreZeroAlignedAndApart) {
  AnonymousStorage storage;
  auto mapped = storage.Open(SmallHeader());
  ASSERT_TRUE(mapped.ok()) << mapped.status();
  EXPECT_TRUE(mapped->is_new);
  ExpectZeroAndAligned(*mapped);
}

// A table may be bigger than what is used of it.
TEST(AnonymousStorageTest, UntouchedPagesCostNothing) {
  AnonymousStorage storage;
  v1::TableHeader header = SmallHeader();
  header.mutable_regions(kPayloadRegion)->set_bytes(uint64_t{1} << 36);
  auto mapped = storage.Open(header);
  ASSERT_TRUE(mapped.ok()) << mapped.status();
  mapped->regions[kPayloadRegion][(uint64_t{1} << 36) - 1] = 7;
}

TEST(AnonymousStorageTest, NoRoomNamesRegionAndBytes) {
  AnonymousStorage storage;
  v1::TableHeader header = SmallHeader();
  header.mutable_regions(kPayloadRegion)->set_bytes(uint64_t{1} << 62);
  auto mapped = storage.Open(header);
  ASSERT_EQ(mapped.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(mapped.status().message()),
              AllOf(HasSubstr("payload"), HasSubstr("4611686018427387904")));
}

class MappedStorageTest : public testing::Test {
 protected:
  absl::StatusOr<Storage::Mapped> Open(
      const v1::TableHeader& header,
      MappedStorage::Mode mode = MappedStorage::Mode::kServe) {
    storage_ = std::make_unique<MappedStorage>(path_, mode);
    return storage_->Open(header);
  }
  void ExpectRefused(const v1::TableHeader& header, absl::StatusCode code,
                     const std::string& words) {
    const auto before = Bytes();
    auto mapped = Open(header);
    EXPECT_EQ(mapped.status().code(), code) << mapped.status();
    EXPECT_THAT(std::string(mapped.status().message()), HasSubstr(words));
    EXPECT_EQ(Bytes(), before) << "a refused folder was changed";
  }
  std::string Bytes() {
    std::string all;
    for (const char* name :
         {"header", "state", "writers", "steps", "payload", "items"}) {
      std::ifstream file(path_ + "/" + name, std::ios::binary);
      all.append(std::istreambuf_iterator<char>(file), {});
    }
    return all;
  }

  const TempDirectory directory_;
  const std::string path_ = directory_.path() + "/table";
  std::unique_ptr<MappedStorage> storage_;
};

TEST_F(MappedStorageTest, NewRegionsAreZeroAndKeptForTheNextLife) {
  auto mapped = Open(SmallHeader());
  ASSERT_TRUE(mapped.ok()) << mapped.status();
  EXPECT_TRUE(mapped->is_new);
  ExpectZeroAndAligned(*mapped);
  EXPECT_TRUE(storage_->Sync().ok());
  v1::TableHeader other_seed = SmallHeader();
  other_seed.set_first_generation(8);
  auto again = Open(other_seed);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_FALSE(again->is_new);
  EXPECT_EQ(again->header.first_generation(), 7u);
  EXPECT_EQ(again->regions[kItemsRegion][5], 1);
}

// The kernel's account of the pages that the disk does not have yet.
uint64_t DirtyBytes(const std::string& path) {
  std::ifstream smaps("/proc/self/smaps");
  uint64_t kilobytes = 0;
  bool in_file = false;
  for (std::string line; std::getline(smaps, line);) {
    std::istringstream words(line);
    std::string first;
    words >> first;
    if (first.back() != ':') {  // A mapping begins.
      in_file = line.find(path + "/") != std::string::npos;
    } else if (in_file &&
               (first == "Shared_Dirty:" || first == "Private_Dirty:")) {
      uint64_t dirty = 0;
      words >> dirty;
      kilobytes += dirty;
    }
  }
  return kilobytes << 10;
}

TEST_F(MappedStorageTest, SyncBringsAllThatWasStoredToTheDisk) {
  auto mapped = Open(SmallHeader());
  ASSERT_TRUE(mapped.ok()) << mapped.status();
  ASSERT_TRUE(storage_->Sync().ok());
  if (DirtyBytes(path_) > 0) GTEST_SKIP() << "not a disk";
  for (int round = 0; round < 3; ++round) {
    for (char* region : mapped->regions) region[round] = 7;
    EXPECT_GE(DirtyBytes(path_), uint64_t{kRegionCount} << 12);
    ASSERT_TRUE(storage_->Sync().ok());
    EXPECT_EQ(DirtyBytes(path_), 0u);
  }
}

TEST_F(MappedStorageTest, PrivateModeLeavesTheFilesAlone) {
  ASSERT_EQ(Open(SmallHeader(), MappedStorage::Mode::kPrivate).status().code(),
            absl::StatusCode::kNotFound);
  ASSERT_TRUE(Open(SmallHeader()).ok());
  const std::string before = Bytes();
  auto mapped = Open(SmallHeader(), MappedStorage::Mode::kPrivate);
  ASSERT_TRUE(mapped.ok()) << mapped.status();
  mapped->regions[kItemsRegion][5] = 9;
  EXPECT_TRUE(storage_->Sync().ok());
  storage_.reset();
  EXPECT_EQ(Bytes(), before);
}

TEST_F(MappedStorageTest, AnotherTableIsRefusedInWordsAndKept) {
  ASSERT_TRUE(Open(SmallHeader()).ok());
  constexpr auto kCode = absl::StatusCode::kFailedPrecondition;
  v1::TableSpec spec = ModelSpec(100, 1 << 20);
  spec.mutable_signature()->mutable_step_columns(0)->set_shape(0, 5);
  ExpectRefused(HeaderOf(spec), kCode, "uint8[5]");
  ExpectRefused(HeaderOf(ModelSpec(101, 1 << 20)), kCode,
                "max_items is 100 in these files and 101 in the config");
  ExpectRefused(HeaderOf(ModelSpec(100, 1 << 21)), kCode, "max_bytes is");
  ExpectRefused(HeaderOf(ModelSpec(100, 1 << 20), 3), kCode,
                "shard is 0 in these files and 3");
  spec = ModelSpec(100, 1 << 20);
  spec.set_remover(v1::LOWEST_PRIORITY);
  ExpectRefused(HeaderOf(spec), kCode, "remover");
}

TEST_F(MappedStorageTest, AnotherFormatIsRefusedInWordsAndKept) {
  ASSERT_TRUE(Open(SmallHeader()).ok());
  v1::TableHeader later = SmallHeader();
  later.set_format(2);
  ASSERT_TRUE(WriteFramedFile(path_ + "/header", "QFLTTABL", later).ok());
  ExpectRefused(SmallHeader(), absl::StatusCode::kFailedPrecondition,
                "format = 2: allowed is 1");
}

TEST_F(MappedStorageTest, DamagedHeaderIsRefused) {
  ASSERT_TRUE(Open(SmallHeader()).ok());
  std::fstream file(path_ + "/header",
                    std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(40);
  file.put('?');
  file.close();
  ExpectRefused(SmallHeader(), absl::StatusCode::kDataLoss,
                "checksum does not match");
}

TEST_F(MappedStorageTest, TruncatedOrMissingFileIsRefused) {
  ASSERT_TRUE(Open(SmallHeader()).ok());
  std::filesystem::resize_file(path_ + "/payload", 1000);
  ExpectRefused(SmallHeader(), absl::StatusCode::kDataLoss,
                "payload has 1000 bytes");
  std::filesystem::remove(path_ + "/payload");
  ExpectRefused(SmallHeader(), absl::StatusCode::kDataLoss, "cannot open");
}

TEST_F(MappedStorageTest, WhatAnInterruptedCreationLeftIsMadeAnew) {
  std::filesystem::create_directories(path_ + ".new");
  std::ofstream(path_ + ".new/steps") << "half";
  auto mapped = Open(SmallHeader());
  ASSERT_TRUE(mapped.ok()) << mapped.status();
  EXPECT_FALSE(std::filesystem::exists(path_ + ".new"));
}

TEST(DataDirectoryTest, IsForOneProcessAtATime) {
  const TempDirectory parent;
  const std::string path = parent.path() + "/a/b";
  auto first = DataDirectory::Lock(path);
  ASSERT_TRUE(first.ok()) << first.status();
  auto second = DataDirectory::Lock(path);
  ASSERT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr("in use by another process"));
  first->reset();
  EXPECT_TRUE(DataDirectory::Lock(path).ok());
}

}  // namespace
}  // namespace qfleet
