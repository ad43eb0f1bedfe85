#include "common/process_metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/metrics.h"
#include "common/resources.h"

namespace qfleet {
namespace {

// Fields of /proc/self/stat from its third on, "state": the second, the name
// in parentheses, may hold anything (proc(5)).
struct ProcessStat {
  double cpu_seconds = 0;
  double start_ticks = 0;  // Since the machine's start.
  double virtual_bytes = 0;
  double resident_bytes = 0;
};

std::optional<ProcessStat> ReadStat() {
  constexpr int kUserTime = 14 - 3, kSystemTime = 15 - 3, kStart = 22 - 3,
                kVirtual = 23 - 3, kResident = 24 - 3;
  std::ifstream file("/proc/self/stat");
  std::string text;
  std::getline(file, text);
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  const std::vector<absl::string_view> fields = absl::StrSplit(
      absl::string_view(text).substr(name_end + 1), ' ', absl::SkipEmpty());
  if (fields.size() <= kResident) return std::nullopt;
  const auto field = [&fields](int index) {
    double value = 0;
    return absl::SimpleAtod(fields[index], &value) ? value : 0;
  };
  const double ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  return ProcessStat{
      .cpu_seconds = (field(kUserTime) + field(kSystemTime)) / ticks,
      .start_ticks = field(kStart) / ticks,
      .virtual_bytes = field(kVirtual),
      .resident_bytes =
          field(kResident) * static_cast<double>(sysconf(_SC_PAGESIZE))};
}

// The machine's start, Unix time.
double BootSeconds() {
  std::ifstream file("/proc/stat");
  for (std::string line; std::getline(file, line);) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
    double seconds = 0;
    if (words.size() == 2 && words[0] == "btime" &&
        absl::SimpleAtod(words[1], &seconds)) {
      return seconds;
    }
  }
  return 0;
}

double OpenDescriptors() {
  std::error_code error;
  double count = 0;
  std::filesystem::directory_iterator entries("/proc/self/fd", error), end;
  while (!error && entries != end) {
    ++count;
    entries.increment(error);
  }
  return count;
}

struct Exported {
  explicit Exported(Metrics& metrics)
      : cpu(metrics.Counter("process_cpu_seconds_total",
                            "CPU time of the process, user and system.")),
        resident(metrics.Gauge("process_resident_memory_bytes",
                               "Memory of the process that is in RAM.")),
        virtual_memory(metrics.Gauge("process_virtual_memory_bytes",
                                     "Address space of the process.")),
        open_fds(metrics.Gauge("process_open_fds", "Open file descriptors.")),
        max_fds(metrics.Gauge("process_max_fds",
                              "How many file descriptors may be open.")),
        start_time(metrics.Gauge("process_start_time_seconds",
                                 "When the process started, Unix time.")),
        available(metrics.Gauge(
            "qfleet_process_memory_available_bytes",
            "Memory that is left to the process: the machine's, or its "
            "control group's where that has a bound.")),
        memory_limit(metrics.Gauge("qfleet_process_memory_limit_bytes",
                            "Memory that there is in all, likewise.")) {}

  void Update() {
    if (const std::optional<ProcessStat> stat = ReadStat()) {
      RaiseTo(stat->cpu_seconds, cpu);
      resident.Set(stat->resident_bytes);
      virtual_memory.Set(stat->virtual_bytes);
      if (start_time.Value() == 0) {
        start_time.Set(BootSeconds() + stat->start_ticks);
      }
    }
    open_fds.Set(OpenDescriptors());
    rlimit limit = {};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
      max_fds.Set(static_cast<double>(limit.rlim_cur));
    }
    const MemoryView memory = ReadMemory();
    available.Set(static_cast<double>(memory.available));
    memory_limit.Set(static_cast<double>(memory.total));
  }

  prometheus::Counter& cpu;
  prometheus::Gauge& resident;
  prometheus::Gauge& virtual_memory;
  prometheus::Gauge& open_fds;
  prometheus::Gauge& max_fds;
  prometheus::Gauge& start_time;
  prometheus::Gauge& available;
  prometheus::Gauge& memory_limit;
};

}  // namespace

void AddProcessMetrics(Metrics& metrics) {
  metrics.OnScrape(
      [exported = std::make_shared<Exported>(metrics)] { exported->Update(); });
}

void AddDiskMetrics(Metrics& metrics, const std::string& process,
                    const std::string& path) {
  auto& available =
      metrics.Gauge(absl::StrCat("qfleet_", process, "_disk_available_bytes"),
                    "Free space where this process keeps its files.");
  auto& size =
      metrics.Gauge(absl::StrCat("qfleet_", process, "_disk_size_bytes"),
                    "Size of the file system where it keeps them.");
  metrics.OnScrape([&available, &size, path] {
    const absl::StatusOr<DiskView> disk = ReadDisk(path);
    if (!disk.ok()) return;
    available.Set(static_cast<double>(disk->available));
    size.Set(static_cast<double>(disk->total));
  });
}

}  // namespace qfleet
