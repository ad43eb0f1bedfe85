// Follows RUN_DIR/metrics.jsonl while the learner appends to it.

#ifndef QFLEET_CLI_REPORT_READER_H_
#define QFLEET_CLI_REPORT_READER_H_

#include <fstream>
#include <string>
#include <vector>

#include "qfleet/v1/weights.pb.h"

namespace qfleet {

// Thread-compatible.
class ReportReader {
 public:
  // The file need not be there yet.
  explicit ReportReader(std::string path) : path_(std::move(path)) {}

  // The reports of the whole lines that were added since the last call. A line
  // that is no report (of another version, say) is left out.
  std::vector<v1::RunReport> Poll();

 private:
  const std::string path_;
  std::ifstream file_;
  std::string rest_;  // Of a line whose end is not written yet.
};

}  // namespace qfleet

#endif  // QFLEET_CLI_REPORT_READER_H_
