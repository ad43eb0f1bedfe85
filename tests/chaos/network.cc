#include "tests/chaos/network.h"

#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"
#include "gtest/gtest.h"
#include "tests/fault/shard_process.h"

namespace qfleet {
namespace {

constexpr char kIp[] = "/usr/sbin/ip";
constexpr char kEnter[] = "/usr/bin/nsenter";

std::string NetworkOf(const std::string& process) {
  char link[64] = {};
  const std::string path = absl::StrCat("/proc/", process, "/ns/net");
  return readlink(path.c_str(), link, sizeof(link) - 1) > 0 ? link : "";
}

// A user without rights may have namespaces of his own, in which he is root.
bool Unshare() {
  if (unshare(CLONE_NEWNET) == 0) return true;
  const uid_t uid = getuid();
  const gid_t gid = getgid();
  if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) return false;
  std::ofstream("/proc/self/setgroups") << "deny";
  std::ofstream("/proc/self/uid_map") << "0 " << uid << " 1";
  std::ofstream("/proc/self/gid_map") << "0 " << gid << " 1";
  return getuid() == 0;
}

}  // namespace

absl::Status Network::Make(const std::string& folder) {
  log_ = folder + "/network";
  for (const char* tool : {kIp, kEnter}) {
    if (access(tool, X_OK) != 0) {
      return absl::PermissionDeniedError(absl::StrCat(tool, " is not there"));
    }
  }
  if (!Unshare()) {
    return absl::PermissionDeniedError(
        "this user may have no network namespace");
  }
  const std::string own = NetworkOf("self");
  holder_ = std::make_unique<Process>(
      std::vector<std::string>{"/usr/bin/unshare", "-n", "/usr/bin/sleep",
                               "1000000"},
      folder + "/holder");
  const std::string pid = absl::StrCat(holder_->pid());
  if (!Eventually([&] {
        const std::string its = NetworkOf(pid);
        return !its.empty() && its != own;
      })) {
    return absl::InternalError("no second network namespace");
  }
  QFLEET_RETURN_IF_ERROR(Ip({"link", "set", "lo", "up"}, false));
  QFLEET_RETURN_IF_ERROR(Ip({"link", "add", "here", "type", "veth", "peer",
                             "name", "there", "netns", pid},
                            false));
  QFLEET_RETURN_IF_ERROR(
      Ip({"addr", "add", absl::StrCat(kHere, "/24"), "dev", "here"}, false));
  QFLEET_RETURN_IF_ERROR(
      Ip({"addr", "add", absl::StrCat(kThere, "/24"), "dev", "there"}, true));
  for (const char* device : {"lo", "there"}) {
    QFLEET_RETURN_IF_ERROR(Ip({"link", "set", device, "up"}, true));
  }
  return Ip({"link", "set", "here", "up"}, false);
}

std::vector<std::string> Network::There(
    std::vector<std::string> command) const {
  const std::vector<std::string> enter = {
      kEnter, "--preserve-credentials", "-n",
      absl::StrCat("-t", holder_->pid()), "--"};
  command.insert(command.begin(), enter.begin(), enter.end());
  return command;
}

// The far end, so that the near one keeps its route and its silence.
void Network::Plug(const std::string& state) {
  const absl::Status status = Ip({"link", "set", "there", state}, true);
  EXPECT_TRUE(status.ok()) << status;
}

absl::Status Network::Ip(const std::vector<std::string>& arguments,
                         bool there) {
  std::vector<std::string> command = arguments;
  command.insert(command.begin(), kIp);
  if (there) command = There(std::move(command));
  std::string output;
  if (RunToEnd(command, log_, 10, &output) == 0) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat(absl::StrJoin(command, " "), ": ", output));
}

}  // namespace qfleet
