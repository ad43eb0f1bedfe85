#include "replay_client/append_encoder.h"

#include <string>
#include <utility>

#include "common/column_encoder.h"

namespace qfleet {

grpc::ByteBuffer EncodeAppend(v1::AppendBatch batch) {
  ColumnEncoder columns;
  columns.Take(v1::AppendBatch::kStepColumnsFieldNumber,
               batch.mutable_step_columns());
  columns.Take(v1::AppendBatch::kItemColumnsFieldNumber,
               batch.mutable_item_columns());
  const std::string lists = batch.SerializeAsString();
  std::string request;
  AppendFieldHead(v1::AppendRequest::kBatchFieldNumber,
                  lists.size() + columns.bytes(), request);
  request += lists;
  return std::move(columns).Encode(std::move(request));
}

}  // namespace qfleet
