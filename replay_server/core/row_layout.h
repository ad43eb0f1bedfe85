// Where the columns of a row lie: the row's header, then the columns back to
// back in the signature's order, the stride rounded up to 8 bytes. Columns are
// not aligned; they are only ever copied.

#ifndef QFLEET_REPLAY_SERVER_CORE_ROW_LAYOUT_H_
#define QFLEET_REPLAY_SERVER_CORE_ROW_LAYOUT_H_

#include <cstdint>
#include <vector>

#include "common/table_spec.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "qfleet/v1/tensor.pb.h"

namespace qfleet {

struct ColumnLayout {
  uint64_t offset = 0;  // From the start of the row.
  uint64_t bytes = 0;
};

struct RowLayout {
  RowLayout(const google::protobuf::RepeatedPtrField<v1::TensorSpec>& specs,
            uint64_t header_bytes)
      : header(header_bytes) {
    uint64_t end = header;
    for (const v1::TensorSpec& spec : specs) {
      const auto bytes = static_cast<uint64_t>(RowBytes(spec));
      columns.push_back({end, bytes});
      end += bytes;
    }
    payload = end - header;
    stride = (end + 7) / 8 * 8;
  }

  std::vector<ColumnLayout> columns;
  uint64_t header = 0;   // Bytes before the first column.
  uint64_t payload = 0;  // Bytes of all columns.
  uint64_t stride = 0;   // Bytes from row to row.
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_CORE_ROW_LAYOUT_H_
