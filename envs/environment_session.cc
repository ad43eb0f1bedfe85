#include "envs/environment_session.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"
#include "common/table_spec.h"

namespace qfleet {
namespace {

constexpr uint32_t kProtocol = 1;
constexpr size_t kMaxMakeBytes = size_t{1} << 30;
constexpr size_t kMaxErrorBytes = 1 << 16;
constexpr int64_t kMaxRowBytes = int64_t{1} << 26;
constexpr uint32_t kMaxActions = 65536;

absl::Status Bad(absl::string_view what, absl::string_view value,
                 absl::string_view allowed) {
  return absl::InvalidArgumentError(
      absl::StrCat(what, " = ", value, ": allowed is ", allowed));
}

// Of a field with `expected` bytes or elements.
absl::Status CheckSize(absl::string_view field, absl::string_view unit,
                       size_t size, size_t expected) {
  if (size == expected) return absl::OkStatus();
  return Bad(field, absl::StrCat(size, " ", unit), absl::StrCat(expected));
}

// Finite where they are floats. `of`: the environment of row r.
template <typename Of>
absl::Status CheckNumbers(absl::string_view field, const std::string& rows,
                          size_t row_bytes, v1::DType dtype, const Of& of) {
  if (dtype != v1::FLOAT32) return absl::OkStatus();
  for (size_t at = 0; at < rows.size(); at += sizeof(float)) {
    float value;
    std::memcpy(&value, &rows[at], sizeof(value));
    if (std::isfinite(value)) continue;
    return Bad(absl::StrCat("environment ", of(at / row_bytes), ": ", field,
                            "[", at % row_bytes / sizeof(float), "]"),
               absl::StrCat(value), "a finite number");
  }
  return absl::OkStatus();
}

// `may_be_none`: whether row r may have no legal action.
template <typename Of, typename MayBeNone>
absl::Status CheckMasks(absl::string_view field, const std::string& rows,
                        size_t actions, const Of& of,
                        const MayBeNone& may_be_none) {
  for (size_t row = 0; row * actions < rows.size(); ++row) {
    bool legal = may_be_none(row);
    for (size_t a = 0; a < actions; ++a) {
      const auto value = static_cast<uint8_t>(rows[row * actions + a]);
      if (value > 1) {
        return Bad(
            absl::StrCat("environment ", of(row), ": ", field, "[", a, "]"),
            absl::StrCat(static_cast<int>(value)), "0 or 1");
      }
      legal = legal || value == 1;
    }
    if (!legal) {
      return Bad(absl::StrCat("environment ", of(row), ": ", field), "all 0",
                 "at least one 1 unless the episode terminated");
    }
  }
  return absl::OkStatus();
}

}  // namespace

bool IsLoss(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsAborted(status);
}

absl::Status EnvironmentSession::Make(v1::MakeRequest request) {
  request.set_protocol(kProtocol);
  count_ = request.count();
  *request_.mutable_make() = std::move(request);
  QFLEET_RETURN_IF_ERROR(Send());
  QFLEET_RETURN_IF_ERROR(
      Receive(kMaxMakeBytes, std::max(deadline_, kMakePatience)));
  QFLEET_RETURN_IF_ERROR(TakeSpec(reply_.make()));
  return count_ == 0 ? absl::OkStatus() : CheckState();
}

void EnvironmentSession::StartStep(absl::Span<const int> actions) {
  v1::StepRequest& step = *request_.mutable_step();
  step.clear_actions();
  step.mutable_actions()->Add(actions.begin(), actions.end());
  sent_ = Send();
}

absl::Status EnvironmentSession::FinishStep() {
  QFLEET_RETURN_IF_ERROR(sent_);
  const size_t environment_bytes =
      2 * (row_bytes_ + spec_.num_actions) + sizeof(float) + 2;
  QFLEET_RETURN_IF_ERROR(
      Receive(count_ * environment_bytes + kMaxErrorBytes, deadline_));
  QFLEET_RETURN_IF_ERROR(CheckState());
  return CheckStep();
}

absl::Status EnvironmentSession::Send() {
  request_.SerializeToString(&message_);
  return socket_.Send(message_, deadline_);
}

absl::Status EnvironmentSession::Receive(size_t max_bytes,
                                         absl::Duration patience) {
  QFLEET_RETURN_IF_ERROR(socket_.Receive(max_bytes, patience, message_));
  if (!reply_.ParseFromString(message_)) {
    return absl::InvalidArgumentError(
        absl::StrCat("message of ", message_.size(),
                     " bytes: allowed is a qfleet.v1.EnvironmentReply"));
  }
  if (reply_.error().empty()) return absl::OkStatus();
  const bool fatal = reply_.fatal() || request_.has_make();
  return fatal ? absl::InvalidArgumentError(reply_.error())
               : absl::AbortedError(reply_.error());
}

absl::Status EnvironmentSession::TakeSpec(const v1::MakeReply& made) {
  if (made.protocol() != kProtocol) {
    return Bad("protocol", absl::StrCat(made.protocol()),
               absl::StrCat(kProtocol));
  }
  const v1::EnvironmentSpec& spec = made.spec();
  const v1::TensorSpec& observation = spec.observation();
  if (observation.name() != "observation") {
    return Bad("spec.observation.name",
               absl::StrCat("\"", observation.name(), "\""), "\"observation\"");
  }
  if (observation.dtype() != v1::FLOAT32 && observation.dtype() != v1::UINT8) {
    return Bad("spec.observation.dtype", v1::DType_Name(observation.dtype()),
               "FLOAT32 or UINT8");
  }
  int64_t bytes = DTypeBytes(observation.dtype());
  for (int64_t extent : observation.shape()) {
    if (extent < 1 || extent > kMaxRowBytes / bytes) {
      return Bad(
          "spec.observation.shape",
          absl::StrCat("[", absl::StrJoin(observation.shape(), ","), "]"),
          absl::StrCat("extents of at least 1 and ", kMaxRowBytes,
                       " bytes at most"));
    }
    bytes *= extent;
  }
  if (spec.num_actions() < 1 || spec.num_actions() > kMaxActions) {
    return Bad("spec.num_actions", absl::StrCat(spec.num_actions()),
               absl::StrCat("1 to ", kMaxActions));
  }
  spec_.observation = observation;
  spec_.num_actions = static_cast<int>(spec.num_actions());
  spec_.has_action_mask = spec.has_action_mask();
  row_bytes_ = bytes;
  return absl::OkStatus();
}

// What is to be acted on next.
absl::Status EnvironmentSession::CheckState() const {
  const auto same = [](size_t row) { return row; };
  const std::string& masks = reply_.action_masks();
  QFLEET_RETURN_IF_ERROR(CheckSize("observations", "bytes",
                                   reply_.observations().size(),
                                   count_ * row_bytes_));
  if (!masks.empty()) {
    QFLEET_RETURN_IF_ERROR(
        CheckSize("action_masks", "bytes", masks.size(),
                  spec_.has_action_mask ? count_ * spec_.num_actions : 0));
  }
  QFLEET_RETURN_IF_ERROR(CheckNumbers("observation", reply_.observations(),
                                      row_bytes_, spec_.observation.dtype(),
                                      same));
  return CheckMasks("action_mask", masks, spec_.num_actions, same,
                    [](size_t) { return false; });
}

// What has been.
absl::Status EnvironmentSession::CheckStep() const {
  QFLEET_RETURN_IF_ERROR(
      CheckSize("rewards", "numbers", reply_.rewards_size(), count_));
  QFLEET_RETURN_IF_ERROR(
      CheckSize("terminated", "flags", reply_.terminated_size(), count_));
  QFLEET_RETURN_IF_ERROR(
      CheckSize("truncated", "flags", reply_.truncated_size(), count_));
  std::vector<int> ended;
  for (int i = 0; i < reply_.rewards_size(); ++i) {
    if (!std::isfinite(reply_.rewards(i))) {
      return Bad(absl::StrCat("environment ", i, ": reward"),
                 absl::StrCat(reply_.rewards(i)), "a finite number");
    }
    if (reply_.terminated(i) || reply_.truncated(i)) ended.push_back(i);
  }
  const auto of = [&](size_t row) { return ended[row]; };
  const std::string& masks = reply_.final_action_masks();
  QFLEET_RETURN_IF_ERROR(CheckSize("final_observations", "bytes",
                                   reply_.final_observations().size(),
                                   ended.size() * row_bytes_));
  if (!masks.empty()) {
    QFLEET_RETURN_IF_ERROR(CheckSize(
        "final_action_masks", "bytes", masks.size(),
        spec_.has_action_mask ? ended.size() * spec_.num_actions : 0));
  }
  QFLEET_RETURN_IF_ERROR(CheckNumbers("final_observation",
                                      reply_.final_observations(), row_bytes_,
                                      spec_.observation.dtype(), of));
  return CheckMasks("final_action_mask", masks, spec_.num_actions, of,
                    [&](size_t row) { return reply_.terminated(ended[row]); });
}

}  // namespace qfleet
