// What `qfleet status` prints, from what the processes answered.

#ifndef QFLEET_CLI_STATUS_TABLE_H_
#define QFLEET_CLI_STATUS_TABLE_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"
#include "qfleet/v1/replay.pb.h"
#include "qfleet/v1/weights.pb.h"

namespace qfleet {

// One address: a shard, a learner, or why there is no answer.
struct ProcessStatus {
  std::string address;
  absl::Status error;
  std::optional<v1::DescribeResponse> shard;
  std::optional<v1::RunReport> run;
};

// A table of the learners, one of the shards, and one of the addresses that
// did not answer; those without rows are left out.
std::string StatusTable(const std::vector<ProcessStatus>& processes);

// A list with an object for each address: "address" and one of "learner",
// "replay" (the answers by their field names) and "error".
nlohmann::ordered_json StatusJson(const std::vector<ProcessStatus>& processes);

}  // namespace qfleet

#endif  // QFLEET_CLI_STATUS_TABLE_H_
