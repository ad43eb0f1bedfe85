#include "common/resources.h"

#include <sys/resource.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <optional>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "spdlog/spdlog.h"

namespace qfleet {
namespace {

// The lines of a file of "name value [unit]" or "name: value [unit]"; absent:
// nothing.
std::optional<uint64_t> ReadField(const std::string& path,
                                  absl::string_view name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(": \t"), absl::SkipEmpty());
    uint64_t value = 0;
    if (words.size() >= 2 && words[0] == name &&
        absl::SimpleAtoi(words[1], &value)) {
      return value;
    }
  }
  return std::nullopt;
}

// "max" and what is absent: nothing.
std::optional<uint64_t> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  uint64_t value = 0;
  if (!(file >> word) || !absl::SimpleAtoi(word, &value)) return std::nullopt;
  return value;
}

// The control group of this process, as a path below `root`: the line of
// /proc/self/cgroup whose controllers are `controller` ("" is version 2).
std::string GroupPath(absl::string_view controller, const std::string& root) {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> parts =
        absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() == 3 && parts[1] == controller) {
      return absl::StrCat(root, parts[2]);
    }
  }
  return root;
}

struct Group {
  uint64_t limit = 0;
  uint64_t used = 0;  // Without page cache that can be dropped.
};

std::optional<Group> ReadGroup(const std::string& limit_path,
                               const std::string& used_path,
                               const std::string& stat_path,
                               absl::string_view cache_name) {
  const std::optional<uint64_t> limit = ReadNumber(limit_path);
  const std::optional<uint64_t> used = ReadNumber(used_path);
  if (!limit.has_value() || !used.has_value()) return std::nullopt;
  const uint64_t cache = ReadField(stat_path, cache_name).value_or(0);
  return Group{*limit, *used - std::min(*used, cache)};
}

// The narrowest group that holds this process; in a container its own is seen
// at the root.
std::optional<Group> MemoryGroup() {
  constexpr char kRoot2[] = "/sys/fs/cgroup";
  constexpr char kRoot1[] = "/sys/fs/cgroup/memory";
  for (const std::string& path : {GroupPath("", kRoot2), std::string(kRoot2)}) {
    auto group = ReadGroup(path + "/memory.max", path + "/memory.current",
                           path + "/memory.stat", "inactive_file");
    if (group.has_value()) return group;
  }
  for (const std::string& path :
       {GroupPath("memory", kRoot1), std::string(kRoot1)}) {
    auto group = ReadGroup(path + "/memory.limit_in_bytes",
                           path + "/memory.usage_in_bytes",
                           path + "/memory.stat", "total_inactive_file");
    if (group.has_value()) return group;
  }
  return std::nullopt;
}

std::string Mebibytes(uint64_t bytes) {
  return absl::StrCat(bytes >> 20, " MiB");
}

}  // namespace

MemoryView ReadMemory() {
  constexpr char kMemory[] = "/proc/meminfo";  // In kB, which are KiB.
  MemoryView view;
  view.total = ReadField(kMemory, "MemTotal").value_or(0) << 10;
  view.available = ReadField(kMemory, "MemAvailable").value_or(0) << 10;
  if (const std::optional<Group> group = MemoryGroup()) {
    view.total = std::min(view.total, group->limit);
    view.available =
        std::min(view.available, group->limit - std::min(group->limit,
                                                         group->used));
  }
  return view;
}

absl::StatusOr<DiskView> ReadDisk(const std::string& path) {
  struct statvfs disk = {};
  if (statvfs(path.c_str(), &disk) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot look at ", path));
  }
  return DiskView{.total = disk.f_blocks * disk.f_frsize,
                  .available = disk.f_bavail * disk.f_frsize};
}

absl::Status AllowOpenFiles(uint64_t needed, const std::string& why) {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return absl::ErrnoToStatus(errno, "cannot read RLIMIT_NOFILE");
  }
  if (limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
      // The hard limit may be above what the kernel gives (fs.nr_open).
      (void)getrlimit(RLIMIT_NOFILE, &limit);
    }
  }
  if (limit.rlim_cur >= needed) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("open files: the limit (ulimit -n) is ", limit.rlim_cur,
                   ": allowed is ", needed, " or more, for ", why));
}

absl::Status CheckMemory(uint64_t bytes, const std::string& name,
                         bool on_disk) {
  const MemoryView memory = ReadMemory();
  if (memory.total == 0 || bytes <= memory.available) return absl::OkStatus();
  if (on_disk) {
    spdlog::warn(
        "{} adds up to {}, {} of memory are available: once the tables are "
        "larger than memory, sampling reads from the disk",
        name, Mebibytes(bytes), Mebibytes(memory.available));
    return absl::OkStatus();
  }
  if (bytes > memory.total) {
    return absl::ResourceExhaustedError(absl::StrCat(
        name, " adds up to ", bytes, ": allowed is at most ", memory.total,
        ", the memory that there is (or --data_dir)"));
  }
  spdlog::warn(
      "{} adds up to {}, but only {} of {} of memory are available now: the "
      "process may be killed when its tables are full",
      name, Mebibytes(bytes), Mebibytes(memory.available),
      Mebibytes(memory.total));
  return absl::OkStatus();
}

void ResourceWatch::Look(const std::string& path, absl::Time now) {
  const DiskView disk =
      path.empty() ? DiskView() : ReadDisk(path).value_or(DiskView());
  for (const std::string& warning : Warnings(ReadMemory(), disk, now)) {
    spdlog::warn("{}", warning);
  }
}

std::vector<std::string> ResourceWatch::Warnings(const MemoryView& memory,
                                                 const DiskView& disk,
                                                 absl::Time now) {
  constexpr uint64_t kFew = 20;  // A twentieth.
  constexpr absl::Duration kSayAgain = absl::Minutes(10);
  std::vector<std::string> warnings;
  const auto look = [&](uint64_t available, uint64_t total, absl::Time& said,
                        absl::string_view what) {
    if (available >= total / kFew || now - said < kSayAgain) return;
    said = now;
    warnings.push_back(absl::StrCat(what, " is nearly full: ",
                                    Mebibytes(available), " of ",
                                    Mebibytes(total), " are left"));
  };
  look(memory.available, memory.total, said_memory_, "memory");
  look(disk.available, disk.total, said_disk_, "the disk of --data_dir");
  return warnings;
}

}  // namespace qfleet
