// Which processes a local run consists of.

#ifndef QFLEET_CLI_CLUSTER_H_
#define QFLEET_CLI_CLUSTER_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/supervisor.h"
#include "qfleet/v1/config.pb.h"

namespace qfleet {

// The folder of this program's file, where the other programs are too.
absl::StatusOr<std::string> BinaryDirectory();

// NOT_FOUND naming the first program of such a run that is not there.
absl::Status CheckBinaries(const std::string& binaries,
                           const v1::Config& config, bool solo);

// Leaves of config.cluster what holds within this machine: no addresses, no TLS
// (unix sockets need none), the limits, the token, whose file's path is made
// absolute, as a run may go on from another folder.
void SetLocalSecurity(v1::Config& config);

// Fills in config.cluster: unix sockets in `sockets` (absolute).
void SetAddresses(const std::string& sockets, v1::Config& config);

// Shards, learner, relays, actors and evaluator of `config`, whose addresses
// are set; with `solo` the one process of a run without a cluster. `resume`:
// the learner or that process goes on from a checkpoint. A learner that crashes
// does so in any case.
std::vector<SupervisedProcess> ProcessesOf(const v1::Config& config,
                                           const std::string& run_dir,
                                           const std::string& binaries,
                                           bool solo, bool resume = false);

// For processes that use LibTorch: small networks want few, quiet threads.
std::vector<std::pair<std::string, std::string>> ThreadEnvironment(int threads);

}  // namespace qfleet

#endif  // QFLEET_CLI_CLUSTER_H_
