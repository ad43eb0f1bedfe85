// How much room a table's rows take, and how many of them its bounds allow.
// The table and the config's check both ask here, so that they agree.

#ifndef QFLEET_COMMON_TABLE_LAYOUT_H_
#define QFLEET_COMMON_TABLE_LAYOUT_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "common/table_spec.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "qfleet/v1/replay.pb.h"
#include "qfleet/v1/tensor.pb.h"

namespace qfleet {

struct ColumnLayout {
  uint64_t offset = 0;  // From the start of the row.
  uint64_t bytes = 0;
};

// Where the columns of a row lie: the row's header, then the columns back to
// back in the signature's order, the stride rounded up to 8 bytes. Columns are
// not aligned; they are only ever copied.
struct RowLayout {
  RowLayout(const google::protobuf::RepeatedPtrField<v1::TensorSpec>& specs,
            uint64_t header_bytes);

  std::vector<ColumnLayout> columns;
  uint64_t header = 0;   // Bytes before the first column.
  uint64_t payload = 0;  // Bytes of all columns.
  uint64_t stride = 0;   // Bytes from row to row.
};

struct TableLayout {
  // Of a step beside its columns: its header, and the head of the list of the
  // items that read it.
  static constexpr uint64_t kStepHeader = 64;
  static constexpr uint64_t kStepList = 4;
  // Of an item beside its columns: its record, and its place in that list.
  static constexpr uint64_t kItemHeader = 40;
  static constexpr uint64_t kItemList = 8;
  // Fewer steps than that are no table.
  static constexpr uint64_t kMinSteps = 64;
  // So many steps at most: distances of ids, those of a reservation that laps
  // the ring by half included, fit in 32 bits.
  static constexpr uint64_t kMaxSteps = uint64_t{1} << 31;

  explicit TableLayout(const v1::TableSpec& spec);

  RowLayout step;           // Columns only; headers stand apart.
  RowLayout item;           // The record, then the columns.
  uint64_t step_bytes = 0;  // Of one step, all in all.
  uint64_t item_bytes = 0;  // Of one item, its share of the tree included.
};

// Bytes of a tree of sums (sum_tree.h) over so many leaves.
uint64_t SumTreeBytes(uint32_t leaves);

// Rows of the step ring: 5/4 of max_items + 1024, or what max_bytes leaves
// beside the items. INVALID_ARGUMENT if that is less than kMinSteps. The spec
// is valid.
absl::StatusOr<uint64_t> StepCapacity(const v1::TableSpec& spec);

// What max_bytes must be at least for a ring of `steps` rows.
double BytesFor(const v1::TableSpec& spec, double steps);

}  // namespace qfleet

#endif  // QFLEET_COMMON_TABLE_LAYOUT_H_
