// Batches, draws and priorities on a small table, which is dropped and opened
// again in between as if its process had been killed.
//
// Input: a byte that chooses the table, then operations: a byte and what
// belongs to it. Batches come as messages off the wire, or are built step by
// step, so that most of those are right.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fuzz/fuzz.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/slice.h"
#include "replay_server/core/storage.h"
#include "replay_server/core/table.h"
#include "replay_server/service/append_decoder.h"
#include "tests/fault/experience.h"

namespace qfleet {
namespace {

constexpr uint64_t kWriters = 3;
constexpr uint32_t kStreams = 2;  // Of each.

// Memory that outlives its table, used again by the next input: most of it, of
// writers that there never are, stays zero.
class SurvivingStorage : public Storage {
 public:
  void Clear() {
    is_new_ = true;
    for (std::vector<Line>& region : regions_) {
      std::fill_n(region.begin(), std::min(region.size(), kUsed), Line());
    }
  }

  absl::StatusOr<Mapped> Open(const v1::TableHeader& wanted) override {
    Mapped mapped;
    mapped.is_new = std::exchange(is_new_, false);
    if (mapped.is_new) header_ = wanted;
    regions_.resize(static_cast<size_t>(header_.regions_size()));
    for (size_t r = 0; r < regions_.size(); ++r) {
      regions_[r].resize(header_.regions(static_cast<int>(r)).bytes() / 64 + 1);
      mapped.regions.push_back(reinterpret_cast<char*>(regions_[r].data()));
    }
    mapped.header = header_;
    return mapped;
  }

 private:
  struct alignas(64) Line {
    std::array<char, 64> bytes = {};
  };
  static constexpr size_t kUsed = 512;  // Lines of a region, at most.

  bool is_new_ = true;
  v1::TableHeader header_;
  std::vector<std::vector<Line>> regions_;
};

class Session {
 public:
  Session(Input input, SurvivingStorage& storage)
      : input_(input), storage_(storage) {
    storage_.Clear();
    const uint8_t kind = input_.Byte();
    spec_ = FaultTable(8, 4);
    spec_.set_max_bytes(90 * 80 + 4096);  // A ring of about that many steps.
    static constexpr v1::Selector::Kind kKinds[] = {
        v1::Selector::PRIORITIZED, v1::Selector::UNIFORM, v1::Selector::FIFO};
    spec_.mutable_selector()->set_kind(kKinds[kind % 3]);
    if (kind % 3 == 2) {
      spec_.mutable_selector()->set_max_times_sampled(kind & 8 ? 2 : 1);
    }
    spec_.set_remover(kind & 16 ? v1::LOWEST_PRIORITY : v1::FIFO);
    Create();
  }

  void Run() {
    for (int operations = 0; operations < 200 && !input_.empty();
         ++operations) {
      const uint8_t operation = input_.Byte();
      writer_ = 1 + operation / 16 % kWriters;
      switch (operation % 16) {
        case 0:
          FromWire();
          break;
        case 1:
          Draw();
          break;
        case 2:
          UpdatePriorities();
          break;
        case 3:
          Kill();
          break;
        case 4:
          // Reserved and written, and then killed.
          Submit(/*commit=*/false);
          Kill();
          break;
        case 5:
        case 6:
          Submit(/*commit=*/true);
          break;
        case 7:
        case 8:
        case 9:
        case 10:
          AddItem();
          break;
        default:
          AddStep();
      }
    }
    Submit(/*commit=*/true);
    Kill();
  }

 private:
  struct Stream {
    uint64_t next = 0;
  };

  void Create() {
    auto created = Table::Create(spec_, storage_, /*seed=*/1 + ++lives_);
    Require(created.status());
    table_ = *std::move(created);
    Require(table_->CheckInvariants());
  }

  void Kill() {
    const v1::TableStats before = table_->Stats();
    const uint64_t last = table_->LastSequence(writer_);
    table_.reset();
    Create();
    const v1::TableStats after = table_->Stats();
    Require(after.inserted() == before.inserted(), "inserted is kept");
    Require(after.sampled() == before.sampled(), "sampled is kept");
    Require(after.steps() == before.steps(), "steps are kept");
    Require(table_->LastSequence(writer_) == last, "the sequence is kept");
    Require(after.size() == before.size() || torn_, "the items are kept");
    Require(after.size() <= before.size(), "nothing came back");
    Require(table_->recovery().damaged_steps == 0, "nothing is damaged");
    while (auto piece = table_->BeginVerify(16)) {
      const std::vector<uint64_t> damaged = table_->Verify(*piece);
      Require(damaged.empty(), "nothing is damaged");
      table_->EndVerify(std::move(piece), damaged);
    }
    torn_ = false;
  }

  // Off the wire, in pieces: as Protobuf understands it, if both do.
  void FromWire() {
    const size_t piece = 1 + input_.Byte();
    const std::string bytes = input_.Bytes(input_.Byte() | input_.Byte() << 8);
    v1::AppendRequest request;
    const bool parses = request.ParseFromString(bytes);
    AppendDecoder decoder;
    const bool decodes = decoder.Decode(Pieces(bytes, piece)).ok();
    if (parses && decodes) RequireSame(decoder, request);
    if (parses) {
      // Without what only Protobuf puts up with.
      request.DiscardUnknownFields();
      AppendDecoder again;
      Require(again.Decode(Pieces(request.SerializeAsString(), piece)));
      RequireSame(again, request);
    }
    if (decodes && decoder.has_batch()) {
      Store(decoder.batch(), /*commit=*/true);
    }
  }

  static grpc::ByteBuffer Pieces(const std::string& bytes, size_t piece) {
    std::vector<grpc::Slice> slices;
    for (size_t at = 0; at < bytes.size(); at += piece) {
      slices.emplace_back(bytes.substr(at, piece));
    }
    return grpc::ByteBuffer(slices.data(), slices.size());
  }

  static void RequireSame(const AppendDecoder& decoder,
                          const v1::AppendRequest& request) {
    Require(decoder.has_open() == request.has_open(), "the same payload");
    Require(decoder.has_batch() == request.has_batch(), "the same payload");
    if (decoder.has_open()) {
      Require(decoder.open().SerializeAsString() ==
                  request.open().SerializeAsString(),
              "the same `open`");
    }
    if (!decoder.has_batch()) return;
    v1::AppendBatch batch = request.batch();
    RequireSame(decoder.batch().step_columns, batch.step_columns());
    RequireSame(decoder.batch().item_columns, batch.item_columns());
    batch.clear_step_columns();
    batch.clear_item_columns();
    Require(
        decoder.batch().lists->SerializeAsString() == batch.SerializeAsString(),
        "the same lists");
  }
  static void RequireSame(
      const std::vector<ColumnBytes>& columns,
      const google::protobuf::RepeatedPtrField<v1::Column>& expected) {
    Require(static_cast<int>(columns.size()) == expected.size(),
            "as many columns");
    for (size_t c = 0; c < columns.size(); ++c) {
      std::string data(columns[c].size(), '\0');
      columns[c].Copy(0, data.size(), data.data());
      Require(data == expected[static_cast<int>(c)].data(), "the same bytes");
    }
  }

  void AddStep() {
    const uint8_t byte = input_.Byte();
    const uint32_t stream = byte % kStreams;
    Stream& state = streams_[{writer_, stream}];
    const bool begins = state.next == 0 || byte % 8 == 7;
    if (byte == 0xff) state.next += input_.Byte();  // A gap.
    batch_.add_step_stream(stream);
    batch_.add_step_index(state.next++);
    batch_.add_step_starts_episode(begins);
    frames_ += std::string(4, static_cast<char>(byte));
  }

  void AddItem() {
    const uint8_t where = input_.Byte();
    const uint32_t stream = where % kStreams;
    const uint64_t next = streams_[{writer_, stream}].next;
    const uint64_t last = next - 1 - where / 2 % 16;
    batch_.add_item_stream(stream);
    batch_.add_item_last(last);
    batch_.add_item_first(last - where / 32);
    const uint8_t priority = input_.Byte();
    batch_.add_item_priority(priority == 0xff
                                 ? std::numeric_limits<float>::quiet_NaN()
                                 : static_cast<float>(priority) - 1);
    uids_ += std::string(8, static_cast<char>(priority));
  }

  // What was built, by the writer of this operation.
  void Submit(bool commit) {
    batch_.set_sequence(table_->LastSequence(writer_) + 1);
    batch_.add_step_columns()->set_data(std::exchange(frames_, ""));
    batch_.add_item_columns()->set_data(std::exchange(uids_, ""));
    Store(batch_, commit);
    batch_.Clear();
  }

  void Store(const AppendInput& batch, bool commit) {
    const v1::AppendBatch& lists = *batch.lists;
    const v1::TableStats before = table_->Stats();
    absl::Status status = table_->CheckBatch(batch);
    // The shard takes sequences in order.
    if (!status.ok() || lists.sequence() <= table_->LastSequence(writer_)) {
      return;
    }
    auto reservation = table_->Reserve(writer_, batch);
    if (!reservation.ok()) {
      Require(!reservation.status().message().empty(), "an error has words");
      Require(table_->Stats().SerializeAsString() == before.SerializeAsString(),
              "a refused batch changes nothing");
      Require(table_->CheckInvariants());
      return;
    }
    Require(table_->Writable(**reservation), "nobody reads");
    table_->Write(**reservation);
    if (!commit) {
      torn_ = true;
      return;
    }
    const v1::AppendResponse response = table_->Commit(*std::move(reservation));
    Require(
        static_cast<int>(response.items_stored() + response.items_skipped()) ==
            lists.item_stream_size(),
        "each item was stored or skipped");
    Require(table_->LastSequence(writer_) == lists.sequence(),
            "the sequence is remembered");
    Require(table_->CheckInvariants());
  }

  void Draw() {
    const uint32_t count = input_.Byte() % 32;
    const bool enough = count <= table_->Drawable();
    auto drawing = table_->Draw(count);
    Require(drawing.ok() == enough, "it draws what is drawable");
    if (!drawing.ok()) return;
    v1::SampleResponse response;
    table_->Gather(**drawing, response);
    table_->Release(*std::move(drawing));
    Require(response.slot_size() == static_cast<int>(count) &&
                response.item_columns(0).data().size() == 8 * count &&
                response.views(0).data().size() == 12 * count &&
                response.views(1).data().size() == 4 * count,
            "columns are of the draw's size");
    drawn_ = std::move(response);
    Require(table_->CheckInvariants());
  }

  void UpdatePriorities() {
    v1::UpdatePrioritiesRequest request;
    for (int j = 0; j < drawn_.slot_size(); ++j) {
      const uint8_t byte = input_.Byte();
      request.add_slot(byte == 0xfe ? 8 : drawn_.slot(j));
      request.add_generation(drawn_.generation(j) + (byte == 0xfd));
      request.add_priority(byte == 0xff ? -1.0f : static_cast<float>(byte));
    }
    auto response = table_->UpdatePriorities(request);
    Require(!response.ok() ||
                static_cast<int>(response->applied() + response->stale() +
                                 response->unknown()) == request.slot_size(),
            "each priority is counted");
    Require(table_->CheckInvariants());
  }

  Input input_;
  v1::TableSpec spec_;
  SurvivingStorage& storage_;
  uint64_t lives_ = 0;
  std::unique_ptr<Table> table_;
  std::map<std::pair<uint64_t, uint32_t>, Stream> streams_;
  uint64_t writer_ = 1;
  v1::AppendBatch batch_;  // That is being built.
  std::string frames_;
  std::string uids_;
  v1::SampleResponse drawn_;
  // Rows were written that no batch has committed: the items that they took the
  // place of are gone.
  bool torn_ = false;
};

}  // namespace
}  // namespace qfleet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto& storage = *new qfleet::SurvivingStorage;
  qfleet::Session(qfleet::Input(data, size), storage).Run();
  return 0;
}
