// A batch as a table takes it: the lists of a v1::AppendBatch, and the columns
// as bytes that lie where they lie, in the message itself or in the pieces in
// which they came off the wire. They are copied once, into the table's rows.

#ifndef QFLEET_REPLAY_SERVER_CORE_APPEND_INPUT_H_
#define QFLEET_REPLAY_SERVER_CORE_APPEND_INPUT_H_

#include <vector>

#include "common/column_bytes.h"
#include "qfleet/v1/replay.pb.h"

namespace qfleet {

// What it refers to must live until the batch was committed or given up.
struct AppendInput {
  AppendInput() = default;
  // The columns of the message itself.
  AppendInput(const v1::AppendBatch& batch)  // NOLINT: is what it says.
      : lists(&batch) {
    for (const v1::Column& column : batch.step_columns()) {
      step_columns.emplace_back(column.data());
    }
    for (const v1::Column& column : batch.item_columns()) {
      item_columns.emplace_back(column.data());
    }
  }

  const v1::AppendBatch* lists = nullptr;  // Its columns are not looked at.
  std::vector<ColumnBytes> step_columns;
  std::vector<ColumnBytes> item_columns;
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_CORE_APPEND_INPUT_H_
