#include "common/json_log.h"

#include <utility>

#include "absl/time/time.h"
#include "nlohmann/json.hpp"

namespace qfleet {

JsonLogFormatter::JsonLogFormatter(std::string role) : role_(std::move(role)) {}

void JsonLogFormatter::format(const spdlog::details::log_msg& message,
                              spdlog::memory_buf_t& line) {
  const spdlog::string_view_t level =
      spdlog::level::to_string_view(message.level);
  const nlohmann::ordered_json object = {
      {"time", absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ",
                                absl::FromChrono(message.time),
                                absl::UTCTimeZone())},
      {"level", std::string(level.data(), level.size())},
      {"role", role_},
      {"message",
       std::string(message.payload.data(), message.payload.size())}};
  const std::string text =
      object.dump(-1, ' ', false,
                  nlohmann::ordered_json::error_handler_t::replace) +
      "\n";
  line.append(text.data(), text.data() + text.size());
}

std::unique_ptr<spdlog::formatter> JsonLogFormatter::clone() const {
  return std::make_unique<JsonLogFormatter>(role_);
}

}  // namespace qfleet
