#include "common/table_spec.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"

namespace qfleet {
namespace {

// Rows and stacks beyond this are a mistake, and would overflow sizes below.
constexpr int64_t kMaxRowBytes = int64_t{1} << 30;
constexpr uint32_t kMaxStack = 64;
// The table's count of an item's draws has 16 bits, one of whose values is
// taken (replay_server/core/item_slots.h).
constexpr uint32_t kMaxTimesSampled = 65534;

bool IsIdentifier(absl::string_view name) {
  if (name.empty() || name.size() > 64) return false;
  if (name[0] < 'a' || name[0] > 'z') return false;
  for (char c : name) {
    if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_') {
      return false;
    }
  }
  return true;
}

absl::Status Invalid(absl::string_view field, absl::string_view value,
                     absl::string_view allowed) {
  return absl::InvalidArgumentError(
      absl::StrCat(field, " = ", value, ": allowed is ", allowed));
}

absl::Status ValidateName(const std::string& name, absl::string_view path,
                          std::set<std::string>& seen) {
  if (!IsIdentifier(name)) {
    return Invalid(absl::StrCat(path, ".name"), absl::StrCat("\"", name, "\""),
                   "[a-z][a-z0-9_]*, up to 64 characters");
  }
  if (!seen.insert(name).second) {
    return Invalid(absl::StrCat(path, ".name"), absl::StrCat("\"", name, "\""),
                   "a name used once");
  }
  return absl::OkStatus();
}

absl::Status ValidateTensor(const v1::TensorSpec& spec, absl::string_view path,
                            std::set<std::string>& seen) {
  QFLEET_RETURN_IF_ERROR(ValidateName(spec.name(), path, seen));
  if (DTypeBytes(spec.dtype()) == 0) {
    return Invalid(absl::StrCat(path, ".dtype"), absl::StrCat(spec.dtype()),
                   "UINT8, INT32, INT64, FLOAT32 or FLOAT64");
  }
  if (spec.shape_size() > 8) {
    return Invalid(absl::StrCat(path, ".shape"),
                   absl::StrCat(spec.shape_size(), " dimensions"),
                   "at most 8 dimensions");
  }
  int64_t bytes = DTypeBytes(spec.dtype());
  for (int64_t dimension : spec.shape()) {
    if (dimension < 1 || dimension > kMaxRowBytes / bytes) {
      return Invalid(absl::StrCat(path, ".shape"), TensorTypeName(spec),
                     "dimensions of at least 1 and a row of at most 1 GiB");
    }
    bytes *= dimension;
  }
  return absl::OkStatus();
}

std::string Describe(const v1::TensorSpec& spec) {
  return absl::StrCat(spec.name(), " ", TensorTypeName(spec));
}

std::string Describe(const v1::View& view) {
  return absl::StrCat(view.name(), " = ", v1::View::Anchor_Name(view.anchor()),
                      " ", view.column(), " stack ",
                      std::max(view.stack(), 1u));
}

template <typename Repeated>
void Compare(absl::string_view list, const Repeated& ours,
             const Repeated& theirs, absl::string_view who,
             std::vector<std::string>& differences) {
  for (int i = 0; i < std::max(ours.size(), theirs.size()); ++i) {
    std::string mine = i < ours.size() ? Describe(ours[i]) : "nothing";
    std::string other = i < theirs.size() ? Describe(theirs[i]) : "nothing";
    if (mine != other) {
      differences.push_back(absl::StrCat(list, "[", i, "] is (", mine,
                                         ") here and (", other, ") at ", who));
    }
  }
}

}  // namespace

int64_t DTypeBytes(v1::DType dtype) {
  switch (dtype) {
    case v1::UINT8:
      return 1;
    case v1::INT32:
    case v1::FLOAT32:
      return 4;
    case v1::INT64:
    case v1::FLOAT64:
      return 8;
    default:
      return 0;
  }
}

int64_t RowBytes(const v1::TensorSpec& spec) {
  int64_t bytes = DTypeBytes(spec.dtype());
  for (int64_t dimension : spec.shape()) bytes *= dimension;
  return bytes;
}

std::string TensorTypeName(const v1::TensorSpec& spec) {
  std::string dtype = v1::DType_Name(spec.dtype());
  for (char& c : dtype) c = absl::ascii_tolower(c);
  return absl::StrCat(dtype, "[", absl::StrJoin(spec.shape(), ","), "]");
}

uint64_t SampledRowBytes(const v1::TableSignature& signature) {
  uint64_t bytes = 0;
  for (const v1::TensorSpec& column : signature.item_columns()) {
    bytes += static_cast<uint64_t>(RowBytes(column));
  }
  for (const v1::View& view : signature.views()) {
    bytes += static_cast<uint64_t>(RowBytes(ViewTensor(signature, view)));
  }
  return bytes;
}

uint32_t MaxDraw(const v1::TableSignature& signature) {
  constexpr uint64_t kMostRows = 65536;
  // Of a message's 256 MiB (common/grpc.h) one is for all else.
  constexpr uint64_t kAnswerBytes = 255 << 20;
  // Slot, generation and mass of a row take 18 bytes at most.
  constexpr uint64_t kKeyBytes = 18;
  return static_cast<uint32_t>(std::clamp<uint64_t>(
      kAnswerBytes / (SampledRowBytes(signature) + kKeyBytes), 1, kMostRows));
}

v1::TensorSpec ViewTensor(const v1::TableSignature& signature,
                          const v1::View& view) {
  v1::TensorSpec result;
  for (const v1::TensorSpec& column : signature.step_columns()) {
    if (column.name() != view.column()) continue;
    result.set_dtype(column.dtype());
    if (view.stack() > 1) result.add_shape(view.stack());
    for (int64_t dimension : column.shape()) result.add_shape(dimension);
  }
  result.set_name(view.name());
  return result;
}

absl::Status ValidateTableSpec(const v1::TableSpec& spec,
                               absl::string_view path) {
  std::set<std::string> none;
  QFLEET_RETURN_IF_ERROR(ValidateName(spec.name(), path, none));
  const v1::TableSignature& signature = spec.signature();
  if (signature.step_columns().empty()) {
    return Invalid(absl::StrCat(path, ".signature.step_columns"), "empty",
                   "at least one column");
  }
  std::set<std::string> step_names;
  for (int i = 0; i < signature.step_columns_size(); ++i) {
    QFLEET_RETURN_IF_ERROR(ValidateTensor(
        signature.step_columns(i),
        absl::StrCat(path, ".signature.step_columns[", i, "]"), step_names));
  }
  std::set<std::string> sampled_names;
  for (int i = 0; i < signature.item_columns_size(); ++i) {
    QFLEET_RETURN_IF_ERROR(ValidateTensor(
        signature.item_columns(i),
        absl::StrCat(path, ".signature.item_columns[", i, "]"), sampled_names));
  }
  for (int i = 0; i < signature.views_size(); ++i) {
    const v1::View& view = signature.views(i);
    std::string field = absl::StrCat(path, ".signature.views[", i, "]");
    QFLEET_RETURN_IF_ERROR(ValidateName(view.name(), field, sampled_names));
    if (step_names.count(view.column()) == 0) {
      return Invalid(absl::StrCat(field, ".column"),
                     absl::StrCat("\"", view.column(), "\""),
                     absl::StrCat("one of ", absl::StrJoin(step_names, ", ")));
    }
    if (view.anchor() != v1::View::FIRST && view.anchor() != v1::View::LAST) {
      return Invalid(absl::StrCat(field, ".anchor"),
                     absl::StrCat(view.anchor()), "FIRST or LAST");
    }
    if (view.stack() > kMaxStack) {
      return Invalid(absl::StrCat(field, ".stack"), absl::StrCat(view.stack()),
                     "1 to 64");
    }
  }
  const v1::Selector& selector = spec.selector();
  if (!v1::Selector::Kind_IsValid(selector.kind())) {
    return Invalid(absl::StrCat(path, ".selector.kind"),
                   absl::StrCat(selector.kind()),
                   "PRIORITIZED, UNIFORM or FIFO");
  }
  const uint32_t times = selector.max_times_sampled();
  if (selector.kind() != v1::Selector::FIFO && times != 0) {
    return Invalid(absl::StrCat(path, ".selector.max_times_sampled"),
                   absl::StrCat(times), "0 unless selector.kind is FIFO");
  }
  if (times > kMaxTimesSampled) {
    return Invalid(absl::StrCat(path, ".selector.max_times_sampled"),
                   absl::StrCat(times),
                   absl::StrCat("0 (which means 1) to ", kMaxTimesSampled));
  }
  if (!std::isfinite(selector.alpha()) || selector.alpha() < 0) {
    return Invalid(absl::StrCat(path, ".selector.alpha"),
                   absl::StrCat(selector.alpha()), "0 or more");
  }
  if (!std::isfinite(selector.epsilon()) || selector.epsilon() < 0) {
    return Invalid(absl::StrCat(path, ".selector.epsilon"),
                   absl::StrCat(selector.epsilon()), "0 or more");
  }
  if (!v1::Remover_IsValid(spec.remover())) {
    return Invalid(absl::StrCat(path, ".remover"), absl::StrCat(spec.remover()),
                   "FIFO or LOWEST_PRIORITY");
  }
  if (spec.max_items() < 1 || spec.max_items() > 0xfffffff0ull) {
    return Invalid(absl::StrCat(path, ".max_items"),
                   absl::StrCat(spec.max_items()), "1 to 4294967280");
  }
  return ValidateRateLimiter(spec.rate_limiter(), selector,
                             absl::StrCat(path, ".rate_limiter"));
}

absl::Status ValidateRateLimiter(const v1::RateLimiter& limiter,
                                 const v1::Selector& selector,
                                 absl::string_view path) {
  if (!std::isfinite(limiter.samples_per_insert()) ||
      limiter.samples_per_insert() < 0) {
    return Invalid(absl::StrCat(path, ".samples_per_insert"),
                   absl::StrCat(limiter.samples_per_insert()), "0 or more");
  }
  // Else the queue runs dry and its writers wait for samples for ever.
  const uint32_t times = std::max(1u, selector.max_times_sampled());
  if (selector.kind() == v1::Selector::FIFO &&
      limiter.samples_per_insert() > times) {
    return Invalid(
        absl::StrCat(path, ".samples_per_insert"),
        absl::StrCat(limiter.samples_per_insert()),
        absl::StrCat("0 to ", times, ", selector.max_times_sampled of a FIFO"));
  }
  if (!std::isfinite(limiter.tolerance()) ||
      (limiter.samples_per_insert() > 0 && limiter.tolerance() <= 0)) {
    return Invalid(absl::StrCat(path, ".tolerance"),
                   absl::StrCat(limiter.tolerance()), "more than 0");
  }
  return absl::OkStatus();
}

absl::Status CheckSameSignature(const v1::TableSignature& ours,
                                const v1::TableSignature& theirs,
                                absl::string_view who) {
  std::vector<std::string> differences;
  Compare("step_columns", ours.step_columns(), theirs.step_columns(), who,
          differences);
  Compare("item_columns", ours.item_columns(), theirs.item_columns(), who,
          differences);
  Compare("views", ours.views(), theirs.views(), who, differences);
  if (differences.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("signature: ", absl::StrJoin(differences, "; ")));
}

}  // namespace qfleet
