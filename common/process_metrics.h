// What Prometheus' client libraries export of any process, in their names
// (prometheus.io/docs/instrumenting/writing_clientlibs), which prometheus-cpp
// leaves out, and the memory that is left to this one.

#ifndef QFLEET_COMMON_PROCESS_METRICS_H_
#define QFLEET_COMMON_PROCESS_METRICS_H_

#include <string>

namespace qfleet {

class Metrics;

// Read from /proc at each scrape; what cannot be read keeps its value.
void AddProcessMetrics(Metrics& metrics);

// qfleet_PROCESS_disk_available_bytes and qfleet_PROCESS_disk_size_bytes of the
// file system that holds `path`, likewise.
void AddDiskMetrics(Metrics& metrics, const std::string& process,
                    const std::string& path);

}  // namespace qfleet

#endif  // QFLEET_COMMON_PROCESS_METRICS_H_
