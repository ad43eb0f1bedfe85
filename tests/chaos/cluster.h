// A cluster whose processes a test starts, hurts and looks at, one by one: two
// shards with files (the second one behind the network's cable), a learner, two
// actors, an evaluator.

#ifndef QFLEET_TESTS_CHAOS_CLUSTER_H_
#define QFLEET_TESTS_CHAOS_CLUSTER_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "qfleet/v1/config.pb.h"
#include "tests/chaos/network.h"
#include "tests/process.h"

namespace qfleet {

class Cluster {
 public:
  // `folder` gets everything. `config` says how many actors.
  Cluster(const std::string& folder, const v1::Config& config,
          const Network& network);

  // Starts a process that does not run, and waits until it serves. `more`:
  // further flags.
  void Start(const std::string& name,
             const std::vector<std::string>& more = {});
  void Kill(const std::string& name);    // SIGKILL; until it is gone.
  void Freeze(const std::string& name);  // SIGSTOP.
  void Thaw(const std::string& name);
  // SIGTERM; the exit code.
  int Stop(const std::string& name);
  // Until it ends by itself: the exit code; -1: it does not within `seconds`.
  int Await(const std::string& name, double seconds);

  // A metric of a process, summed over its labels; -1 while it does not answer.
  // Counters of one life must not fall: that is an error of the test.
  double Metric(const std::string& process, const std::string& metric);

  std::string Output(const std::string& name) const;
  std::string data_dir(int shard) const;
  const std::string& shard_address(int shard) const {
    return config_.cluster().replay(shard);
  }
  std::vector<std::string> names() const;

 private:
  struct Member {
    std::vector<std::string> command;
    std::unique_ptr<Process> process;
    int lives = 0;
    std::string metrics;                     // Address, of this life.
    std::map<std::string, double> counters;  // The highest, of this life.
  };

  std::string Path(const std::string& name, const std::string& kind) const;
  void Add(const std::string& name, const std::string& binary,
           std::vector<std::string> flags);

  const std::string folder_;
  v1::Config config_;
  const Network& network_;
  std::map<std::string, Member> members_;
};

}  // namespace qfleet

#endif  // QFLEET_TESTS_CHAOS_CLUSTER_H_
