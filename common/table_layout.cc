#include "common/table_layout.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace qfleet {

RowLayout::RowLayout(
    const google::protobuf::RepeatedPtrField<v1::TensorSpec>& specs,
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

TableLayout::TableLayout(const v1::TableSpec& spec)
    : step(spec.signature().step_columns(), 0),
      item(spec.signature().item_columns(), kItemHeader) {
  const auto leaves = static_cast<uint32_t>(spec.max_items());
  const uint64_t tree = SumTreeBytes(leaves);
  step_bytes = kStepHeader + kStepList + step.stride;
  item_bytes = item.stride + kItemList + (tree + leaves - 1) / leaves;
}

uint64_t SumTreeBytes(uint32_t leaves) {
  constexpr uint64_t kFanout = 8;
  uint64_t nodes = 0;
  uint64_t entries = leaves;
  do {
    entries = (entries + kFanout - 1) / kFanout;
    nodes += entries;
  } while (entries > 1);
  return nodes * kFanout * sizeof(double);
}

double BytesFor(const v1::TableSpec& spec, double steps) {
  const TableLayout layout(spec);
  return static_cast<double>(spec.max_items()) *
             static_cast<double>(layout.item_bytes) +
         steps * static_cast<double>(layout.step_bytes);
}

absl::StatusOr<uint64_t> StepCapacity(const v1::TableSpec& spec) {
  const TableLayout layout(spec);
  // In 128 bits, for rows may have gigabytes.
  using Wide = unsigned __int128;
  const Wide items = Wide{spec.max_items()} * layout.item_bytes;
  const Wide least = items + Wide{TableLayout::kMinSteps} * layout.step_bytes;
  if (spec.max_bytes() < least) {
    return absl::InvalidArgumentError(absl::StrCat(
        "max_bytes = ", spec.max_bytes(), ": allowed is at least ",
        static_cast<double>(least) < 1e18 ? static_cast<uint64_t>(least)
                                          : static_cast<uint64_t>(1e18),
        ", for max_items = ", spec.max_items(), " items and ",
        TableLayout::kMinSteps, " steps"));
  }
  const uint64_t wanted = spec.max_items() + spec.max_items() / 4 + 1024;
  const uint64_t room =
      (spec.max_bytes() - static_cast<uint64_t>(items)) / layout.step_bytes;
  return std::min({wanted, room, TableLayout::kMaxSteps});
}

}  // namespace qfleet
