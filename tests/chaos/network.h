// A network of the test's own, from which one process can be cut off.
//
// The test's process and all that it starts are in a new network namespace,
// with loopback alone. One more namespace hangs on it by a cable (a pair of
// virtual devices), and what runs there is reached at kThere. Unplugged, it is
// as when a host's network fails: nothing arrives, and nobody is told.

#ifndef QFLEET_TESTS_CHAOS_NETWORK_H_
#define QFLEET_TESTS_CHAOS_NETWORK_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tests/process.h"

namespace qfleet {

class Network {
 public:
  static constexpr char kHere[] = "10.77.0.1";
  static constexpr char kThere[] = "10.77.0.2";

  // Once in a process, before it has threads. `folder` is for logs.
  // PERMISSION_DENIED where the kernel allows no namespaces.
  absl::Status Make(const std::string& folder);

  // `command`, to be run in the other namespace, with the same pid.
  std::vector<std::string> There(std::vector<std::string> command) const;

  void Unplug() { Plug("down"); }
  void PlugIn() { Plug("up"); }

 private:
  void Plug(const std::string& state);
  absl::Status Ip(const std::vector<std::string>& arguments, bool there);

  std::string log_;
  std::unique_ptr<Process> holder_;  // Of the other namespace.
};

}  // namespace qfleet

#endif  // QFLEET_TESTS_CHAOS_NETWORK_H_
