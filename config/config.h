// The config of a run: reading it, changing it from the command line, filling
// in what it leaves out, and refusing what is wrong, in words.
//
//   QFLEET_ASSIGN_OR_RETURN(
//       v1::Config config, LoadConfig("configs/cartpole.txtpb",
//                                     {"actors.count=4"}));

#ifndef QFLEET_CONFIG_CONFIG_H_
#define QFLEET_CONFIG_CONFIG_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qfleet/v1/config.pb.h"

namespace qfleet {

// Reads the file, applies `sets`, resolves. Every error is INVALID_ARGUMENT
// and one line; NOT_FOUND etc. if the file cannot be read.
absl::StatusOr<v1::Config> LoadConfig(const std::string& path,
                                      absl::Span<const std::string> sets);

// Parses text; `name` stands for the file in errors ("name:line:column: ...").
absl::StatusOr<v1::Config> ParseConfig(const std::string& text,
                                       const std::string& name);

// "path.to.field=value": sets a scalar, or replaces a repeated field of
// scalars by "a,b,c" ("" empties it).
absl::Status SetField(const std::string& assignment, v1::Config& config);

// Sets every unset field to its default, the oneofs to their first choice, and
// what follows from others (replay.table, replay.tolerance, network.hidden);
// then validates. Idempotent.
absl::Status ResolveConfig(v1::Config& config);

// Checks each number against its `allowed` and then what belongs together.
absl::Status ValidateConfig(const v1::Config& config);

std::string ConfigText(const v1::Config& config);

// The table that the algorithm needs for the config's environment, of one
// shard.
absl::StatusOr<v1::TableSpec> TableFor(const v1::Config& config);

}  // namespace qfleet

#endif  // QFLEET_CONFIG_CONFIG_H_
