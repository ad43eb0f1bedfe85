#include "replay_client/append_encoder.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "google/protobuf/io/coded_stream.h"

namespace qfleet {
namespace {

using google::protobuf::io::CodedOutputStream;

// Shorter columns cost less to copy than to refer to.
constexpr size_t kReferFrom = 4096;

// protobuf.dev/programming-guides/encoding: the tag of a field of bytes.
constexpr uint64_t Tag(int field) {
  return static_cast<uint64_t>(field) << 3 | 2;
}

void AppendVarint(uint64_t value, std::string& to) {
  uint8_t bytes[10];
  const uint8_t* end = CodedOutputStream::WriteVarint64ToArray(value, bytes);
  to.append(reinterpret_cast<const char*>(bytes), end - bytes);
}

struct ColumnField {
  int field;
  std::string data;

  // Of the message Column, which has `data` alone.
  uint64_t message_bytes() const {
    if (data.empty()) return 0;
    return CodedOutputStream::VarintSize64(Tag(v1::Column::kDataFieldNumber)) +
           CodedOutputStream::VarintSize64(data.size()) + data.size();
  }
  uint64_t bytes() const {
    return CodedOutputStream::VarintSize64(Tag(field)) +
           CodedOutputStream::VarintSize64(message_bytes()) + message_bytes();
  }
  void AppendHead(std::string& to) const {
    AppendVarint(Tag(field), to);
    AppendVarint(message_bytes(), to);
    if (data.empty()) return;
    AppendVarint(Tag(v1::Column::kDataFieldNumber), to);
    AppendVarint(data.size(), to);
  }
};
using Columns = std::vector<ColumnField>;

void Take(google::protobuf::RepeatedPtrField<v1::Column>* from, int field,
          Columns& to) {
  for (v1::Column& column : *from) {
    to.push_back({field, std::move(*column.mutable_data())});
  }
  from->Clear();
}

// Keeps `columns` until the slice is gone.
grpc::Slice Refer(const std::string& data,
                  const std::shared_ptr<const Columns>& columns) {
  using Owner = std::shared_ptr<const Columns>;
  return grpc::Slice(
      const_cast<char*>(data.data()), data.size(),
      [](void* owner) { delete static_cast<Owner*>(owner); },
      new Owner(columns));
}

}  // namespace

grpc::ByteBuffer EncodeAppend(v1::AppendBatch batch) {
  auto taken = std::make_shared<Columns>();
  Take(batch.mutable_step_columns(), v1::AppendBatch::kStepColumnsFieldNumber,
       *taken);
  Take(batch.mutable_item_columns(), v1::AppendBatch::kItemColumnsFieldNumber,
       *taken);
  const std::shared_ptr<const Columns> columns = std::move(taken);
  const std::string lists = batch.SerializeAsString();
  uint64_t bytes = lists.size();
  for (const ColumnField& column : *columns) bytes += column.bytes();

  std::vector<grpc::Slice> slices;
  std::string copied;
  AppendVarint(Tag(v1::AppendRequest::kBatchFieldNumber), copied);
  AppendVarint(bytes, copied);
  copied += lists;
  for (const ColumnField& column : *columns) {
    column.AppendHead(copied);
    if (column.data.size() < kReferFrom) {
      copied += column.data;
      continue;
    }
    slices.emplace_back(copied);
    copied.clear();
    slices.push_back(Refer(column.data, columns));
  }
  if (!copied.empty()) slices.emplace_back(copied);
  return grpc::ByteBuffer(slices.data(), slices.size());
}

}  // namespace qfleet
