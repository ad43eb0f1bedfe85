// The files of a table, with a few bytes of them changed or cut off: refused,
// or what is served is what was written.
//
// Input: edits of 9 bytes: file, how, where (4), what (3).

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/files.h"
#include "fuzz/fuzz.h"
#include "replay_server/core/storage.h"
#include "replay_server/core/table.h"
#include "tests/fault/experience.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

constexpr const char* kFiles[] = {"header", "state",   "writers",
                                  "steps",  "payload", "items"};
constexpr uint64_t kBatches = 40;

// A table's folder, made once for all inputs.
class Files {
 public:
  Files() : writer_(1, /*seed=*/1, record_), newcomer_(2, /*seed=*/1, record_) {
    MappedStorage storage(path_, MappedStorage::Mode::kServe);
    auto table = Table::Create(record_.spec(), storage, /*seed=*/1);
    Require(table.status());
    for (uint64_t sequence = 1; sequence <= kBatches; ++sequence) {
      Require(Append(**table, 1, writer_.NextBatch(sequence)));
    }
    // What may come after an input has been opened, the same each time.
    next_ = writer_.NextBatch(kBatches + 1);
    other_ = newcomer_.NextBatch(1);
    for (const char* name : kFiles) {
      auto content = ReadFile(path_ + "/" + name);
      Require(content.status());
      contents_.push_back(*std::move(content));
    }
  }

  void Run(Input input) {
    for (int edits = 0; edits < 64 && !input.empty(); ++edits) Edit(input);
    Open();
    for (const Range& range : edited_) {
      Write(range.file, range.from,
            contents_[range.file].substr(range.from, range.bytes));
    }
    edited_.clear();
  }

 private:
  static absl::Status Append(Table& table, uint64_t writer,
                             const v1::AppendBatch& batch) {
    absl::Status status = table.CheckBatch(batch);
    if (!status.ok()) return status;
    auto reservation = table.Reserve(writer, batch);
    if (!reservation.ok()) return reservation.status();
    Require(table.Writable(**reservation), "nobody reads");
    table.Write(**reservation);
    table.Commit(*std::move(reservation));
    return absl::OkStatus();
  }

  struct Range {
    size_t file;
    uint64_t from;
    uint64_t bytes;
  };

  int OpenFile(size_t file) const {
    const std::string path = path_ + "/" + kFiles[file];
    const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    Require(fd >= 0, "the file opens");
    return fd;
  }
  void Write(size_t file, uint64_t from, const std::string& bytes) const {
    const int fd = OpenFile(file);
    Require(pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(from)) ==
                static_cast<ssize_t>(bytes.size()),
            "the file can be written");
    close(fd);
  }
  void Cut(size_t file, uint64_t bytes) const {
    const int fd = OpenFile(file);
    Require(ftruncate(fd, static_cast<off_t>(bytes)) == 0, "it can be cut");
    close(fd);
  }

  void Edit(Input& input) {
    const size_t file = input.Byte() % std::size(kFiles);
    const uint8_t how = input.Byte();
    const uint32_t where = input.Word();
    std::string what = input.Bytes(3);
    const std::string& content = contents_[file];
    const uint64_t size = content.size();
    // Mostly where the rows are: the files are sparse.
    const uint64_t at =
        where % ((how & 8) != 0 ? size : std::min<uint64_t>(size, 8192));
    switch (how % 8) {
      case 0:
        Cut(file, at);
        edited_.push_back({file, at, size - at});
        return;
      case 1:
        what = content.substr(at, 1);
        what[0] = static_cast<char>(what[0] ^ (1 << (how >> 5)));
        break;
      case 2:  // A row in another's place.
        what = content.substr(at / 2, 64);
        break;
      case 3:
        what = std::string(4096, what.empty() ? '\0' : what[0]);
        break;
      default:
        break;
    }
    what.resize(std::min<uint64_t>(what.size(), size - at));
    Write(file, at, what);
    edited_.push_back({file, at, what.size()});
  }

  void Open() const {
    MappedStorage storage(path_, MappedStorage::Mode::kPrivate);
    auto table = Table::Create(record_.spec(), storage, /*seed=*/2);
    if (!table.ok()) {
      Require(!table.status().message().empty(), "an error has words");
      return;
    }
    Require((*table)->CheckInvariants());
    const uint64_t size = (*table)->Stats().size();
    while (auto piece = (*table)->BeginVerify(32)) {
      const std::vector<uint64_t> damaged = (*table)->Verify(*piece);
      (*table)->EndVerify(std::move(piece), damaged);
    }
    Require((*table)->CheckInvariants());
    Require(
        (*table)->Stats().size() + (*table)->verified().damaged_items == size,
        "what went was counted");
    Sample(**table);
    // A damaged step may have been the stream's newest.
    Append(**table, 1, next_).IgnoreError();
    Require((*table)->CheckInvariants());
    Require(Append(**table, 2, other_));
    Require((*table)->CheckInvariants());
    Sample(**table);
    // Every item, and again from the files.
    Require(ReadTableFiles(path_, record_, {1}).status());
  }

  void Sample(Table& table) const {
    if (table.Stats().size() == 0) return;
    auto drawing = table.Draw(64);
    Require(drawing.status());
    v1::SampleResponse response;
    table.Gather(**drawing, response);
    table.Release(*std::move(drawing));
    std::vector<uint64_t> uids;
    Require(record_.Check(response, uids));
  }

  const TempDirectory folder_;
  const std::string path_ = folder_.path() + "/table";
  Record record_{FaultTable(60, 24)};
  Experience writer_;
  Experience newcomer_;
  v1::AppendBatch next_;
  v1::AppendBatch other_;
  std::vector<std::string> contents_;
  std::vector<Range> edited_;  // By the input that runs.
};

}  // namespace
}  // namespace qfleet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto& files = *new qfleet::Files;
  files.Run(qfleet::Input(data, size));
  return 0;
}
