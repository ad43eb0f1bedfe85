// Log lines as JSON, for machines that collect them.

#ifndef QFLEET_COMMON_JSON_LOG_H_
#define QFLEET_COMMON_JSON_LOG_H_

#include <memory>
#include <string>

#include "spdlog/formatter.h"

namespace qfleet {

// {"time":"2026-01-31T07:05:59.123Z","level":"info","role":"replay-0",
//  "message":"text"}: RFC 3339 in UTC; bytes that are no UTF-8 become U+FFFD.
// Thread-compatible, as spdlog wants it.
class JsonLogFormatter final : public spdlog::formatter {
 public:
  explicit JsonLogFormatter(std::string role);

  void format(const spdlog::details::log_msg& message,
              spdlog::memory_buf_t& line) override;
  std::unique_ptr<spdlog::formatter> clone() const override;

 private:
  const std::string role_;
};

}  // namespace qfleet

#endif  // QFLEET_COMMON_JSON_LOG_H_
