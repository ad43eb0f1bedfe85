#include "replay_server/core/inspect.h"

#include <memory>
#include <utility>
#include <vector>

#include "common/status_macros.h"
#include "replay_server/core/storage.h"

namespace qfleet {

absl::StatusOr<TableReport> InspectTable(const std::string& directory) {
  TableReport report;
  QFLEET_ASSIGN_OR_RETURN(report.header, ReadTableHeader(directory));
  MappedStorage storage(directory, MappedStorage::Mode::kPrivate);
  // Files may be of a time when limiters were allowed that are not any more.
  v1::TableSpec spec = report.header.spec();
  spec.clear_rate_limiter();
  QFLEET_ASSIGN_OR_RETURN(
      std::unique_ptr<Table> table,
      Table::Create(spec, storage, 0, report.header.shard()));
  while (auto piece = table->BeginVerify(4096)) {
    const std::vector<uint64_t> damaged = table->Verify(*piece);
    table->EndVerify(std::move(piece), damaged);
  }
  QFLEET_RETURN_IF_ERROR(table->CheckInvariants());
  report.stats = table->Stats();
  report.recovery = table->recovery();
  report.verified = table->verified();
  report.writers = table->writers();
  for (const v1::TableHeader::Region& region : report.header.regions()) {
    report.file_bytes += region.bytes();
  }
  return report;
}

}  // namespace qfleet
