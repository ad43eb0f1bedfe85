#include "replay_server/core/table_state.h"

#include <cstddef>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/hash.h"
#include "common/status_macros.h"

namespace qfleet {
namespace {

constexpr uint64_t kCommits[] = {0, 64};
constexpr uint64_t kSampled[] = {128, 192};

template <typename Record>
uint64_t CheckOf(const Record& record) {
  return Hash64(
      {reinterpret_cast<const char*>(&record), offsetof(Record, check)});
}

template <typename Record>
void Write(Record record, char* region, const uint64_t (&places)[2]) {
  record.check = CheckOf(record);
  for (uint64_t place : places) {
    std::memcpy(region + place, &record, sizeof(record));
    StoreBarrier();
  }
}

template <typename Record>
absl::Status Read(const char* region, const uint64_t (&places)[2],
                  absl::string_view what, Record& newest) {
  bool found = false;
  for (uint64_t place : places) {
    Record record;
    std::memcpy(&record, region + place, sizeof(record));
    static constexpr Record kNew = {};
    const bool whole = std::memcmp(&record, &kNew, sizeof(record)) == 0 ||
                       record.check == CheckOf(record);
    if (!whole || (found && record.number <= newest.number)) continue;
    newest = record;
    found = true;
  }
  if (found) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("state: both copies of the ", what, " record are damaged"));
}

}  // namespace

TableState::TableState(char* region) : region_(region) {}

absl::Status TableState::Recover() {
  QFLEET_RETURN_IF_ERROR(Read(region_, kCommits, "commit", commit_));
  return Read(region_, kSampled, "sampled", sampled_);
}

void TableState::Commit(CommitRecord record) {
  record.number = commit_.number + 1;
  commit_ = record;
  StoreBarrier();  // The batch's rows come first.
  Write(commit_, region_, kCommits);
}

void TableState::SetSampled(uint64_t sampled) {
  ++sampled_.number;
  sampled_.sampled = sampled;
  Write(sampled_, region_, kSampled);
}

}  // namespace qfleet
