// A table beside its model, for tests of one edge each.

#ifndef QFLEET_TESTS_REPLAY_SERVER_CORE_TABLE_FIXTURE_H_
#define QFLEET_TESTS_REPLAY_SERVER_CORE_TABLE_FIXTURE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "replay_server/core/table.h"
#include "tests/replay_server/core/table_model.h"
#include "tests/temp_directory.h"

namespace qfleet {

class TableFixture : public testing::Test {
 protected:
  static constexpr uint64_t kWriter = 77;

  TableFixture() { Make(ModelSpec(100, 1 << 20), 1); }

  void Make(const v1::TableSpec& spec, uint64_t seed) {
    storage_ = std::make_unique<AnonymousStorage>();
    auto table = Table::Create(spec, *storage_, seed);
    ASSERT_TRUE(table.ok()) << table.status();
    table_ = *std::move(table);
    model_ = std::make_unique<TableModel>(spec, table_->step_capacity());
  }

  static ModelBatch NewBatch(uint64_t sequence, uint64_t writer = kWriter) {
    ModelBatch batch;
    batch.writer = writer;
    batch.wire.set_sequence(sequence);
    return batch;
  }

  // Steps [from, to) of the stream; those in `starts` start an episode.
  void AddSteps(ModelBatch& batch, uint32_t stream, uint64_t from, uint64_t to,
                const std::vector<uint64_t>& starts = {}) {
    for (uint64_t index = from; index < to; ++index) {
      const bool begins =
          std::find(starts.begin(), starts.end(), index) != starts.end();
      model_->AddStep(batch, stream, index, begins);
    }
  }

  absl::Status Try(ModelBatch& batch) {
    model_->Reserve(batch);  // Only fills the wire form's empty columns.
    if (absl::Status s = table_->CheckBatch(batch.wire); !s.ok()) return s;
    return table_->Reserve(batch.writer, batch.wire).status();
  }

  v1::AppendResponse Append(ModelBatch& batch) {
    model_->Reserve(batch);
    EXPECT_TRUE(table_->CheckBatch(batch.wire).ok())
        << table_->CheckBatch(batch.wire);
    auto reservation = table_->Reserve(batch.writer, batch.wire);
    if (!reservation.ok()) {
      ADD_FAILURE() << reservation.status();
      return {};
    }
    EXPECT_TRUE(table_->Writable(**reservation));
    table_->Write(**reservation);
    v1::AppendResponse response = table_->Commit(*std::move(reservation));
    EXPECT_EQ(response.SerializeAsString(),
              model_->Commit(batch).SerializeAsString());
    EXPECT_TRUE(table_->CheckInvariants().ok()) << table_->CheckInvariants();
    return response;
  }

  v1::SampleResponse Sample(uint32_t count) {
    v1::SampleResponse response;
    auto drawing = table_->Draw(count);
    if (!drawing.ok()) {
      ADD_FAILURE() << drawing.status();
      return response;
    }
    table_->Gather(**drawing, response);
    table_->Release(*std::move(drawing));
    return response;
  }

  // Steps 0 to 9 of stream 0, an episode from 0 and one from 5, three items.
  void Fill() {
    ModelBatch batch = NewBatch(1);
    AddSteps(batch, 0, 0, 10, {0, 5});
    model_->AddItem(batch, 0, 0, 3, 1);
    model_->AddItem(batch, 0, 5, 8, 2);
    model_->AddItem(batch, 0, 9, 9, 3);
    ASSERT_EQ(Append(batch).items_stored(), 3u);
  }

  // Of a table that the test keeps in files, at path_.
  std::string Read(const std::string& region) {
    std::ifstream file(path_ + "/" + region, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  void Overwrite(const std::string& region, size_t offset,
                 const std::string& bytes) {
    std::fstream file(path_ + "/" + region,
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(offset));
    file << bytes;
  }
  const TempDirectory directory_;
  const std::string path_ = directory_.path() + "/table";
  std::unique_ptr<Storage> storage_;
  std::unique_ptr<Table> table_;
  std::unique_ptr<TableModel> model_;
};

}  // namespace qfleet

#endif  // QFLEET_TESTS_REPLAY_SERVER_CORE_TABLE_FIXTURE_H_
