#include "cli/report_reader.h"

#include "google/protobuf/util/json_util.h"

namespace qfleet {

std::vector<v1::RunReport> ReportReader::Poll() {
  std::vector<v1::RunReport> reports;
  if (!file_.is_open()) file_.open(path_);
  if (!file_.is_open()) return reports;
  file_.clear();  // The end of the file that was met before has moved.
  char buffer[16384];
  while (file_.read(buffer, sizeof(buffer)) || file_.gcount() > 0) {
    rest_.append(buffer, file_.gcount());
  }
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  size_t begin = 0;
  size_t end = 0;
  while ((end = rest_.find('\n', begin)) != std::string::npos) {
    v1::RunReport report;
    if (google::protobuf::util::JsonStringToMessage(
            rest_.substr(begin, end - begin), &report, options)
            .ok()) {
      reports.push_back(std::move(report));
    }
    begin = end + 1;
  }
  // Once, not line by line: a long run's file is read in one go.
  rest_.erase(0, begin);
  return reports;
}

}  // namespace qfleet
