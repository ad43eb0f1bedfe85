#include "common/column_encoder.h"

#include <memory>
#include <utility>

#include "common/wire_format.h"

namespace qfleet {
namespace {

using google::protobuf::io::CodedOutputStream;

// Shorter columns cost less to copy than to refer to.
constexpr size_t kReferFrom = 4096;

uint64_t FieldBytes(int field, uint64_t bytes) {
  return CodedOutputStream::VarintSize64(WireTag(field, kWireBytes)) +
         CodedOutputStream::VarintSize64(bytes) + bytes;
}

// Of a message Column, which has `data` alone.
uint64_t ColumnMessageBytes(const std::string& data) {
  return data.empty() ? 0
                      : FieldBytes(v1::Column::kDataFieldNumber, data.size());
}

}  // namespace

void AppendFieldHead(int field, uint64_t bytes, std::string& to) {
  AppendVarint(WireTag(field, kWireBytes), to);
  AppendVarint(bytes, to);
}

void ColumnEncoder::Take(
    int field, google::protobuf::RepeatedPtrField<v1::Column>* columns) {
  for (v1::Column& column : *columns) {
    columns_.push_back({field, std::move(*column.mutable_data())});
  }
  columns->Clear();
}

uint64_t ColumnEncoder::bytes() const {
  uint64_t bytes = 0;
  for (const Column& column : columns_) {
    bytes += FieldBytes(column.field, ColumnMessageBytes(column.data));
  }
  return bytes;
}

grpc::ByteBuffer ColumnEncoder::Encode(std::string rest) && {
  // Each slice that refers to a column owns a share in all.
  using Owner = std::shared_ptr<const std::vector<Column>>;
  const auto columns =
      std::make_shared<const std::vector<Column>>(std::move(columns_));
  std::vector<grpc::Slice> slices;
  std::string copied = std::move(rest);
  for (const Column& column : *columns) {
    const std::string& data = column.data;
    AppendFieldHead(column.field, ColumnMessageBytes(data), copied);
    if (data.empty()) continue;
    AppendFieldHead(v1::Column::kDataFieldNumber, data.size(), copied);
    if (data.size() < kReferFrom) {
      copied += data;
      continue;
    }
    slices.emplace_back(copied);
    copied.clear();
    slices.emplace_back(
        const_cast<char*>(data.data()), data.size(),
        [](void* owner) { delete static_cast<Owner*>(owner); },
        new Owner(columns));
  }
  if (!copied.empty()) slices.emplace_back(copied);
  return grpc::ByteBuffer(slices.data(), slices.size());
}

}  // namespace qfleet
