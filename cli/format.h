// Numbers as people read them.

#ifndef QFLEET_CLI_FORMAT_H_
#define QFLEET_CLI_FORMAT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace qfleet {

// 1234567 is "1,234,567".
std::string WithCommas(uint64_t value);
// Rounded: 1234.5678 with 1 digit is "1,234.6".
std::string WithCommas(double value, int digits);

// About three significant digits: "0.00123", "12.3", "1,234", "1.2e-07".
std::string Short(double value);

// "512 B", "1.5 KiB", "23.4 MiB".
std::string Bytes(uint64_t bytes);

// "14.2 s", "3:07", "1:02:03".
std::string Seconds(double seconds);

// Columns that UTF-8 text takes on a terminal, one for each code point.
int DisplayWidth(absl::string_view text);

// At most `width` columns of `text`.
std::string CutToWidth(absl::string_view text, int width);

// Pads with spaces to `width` columns, on the left or on the right.
std::string PadLeft(absl::string_view text, int width);
std::string PadRight(absl::string_view text, int width);

// Lines with aligned columns, two spaces apart; the first row holds the
// headers. A column whose every cell starts with a digit, a sign or nothing is
// aligned to the right.
std::string AlignedTable(const std::vector<std::vector<std::string>>& rows);

}  // namespace qfleet

#endif  // QFLEET_CLI_FORMAT_H_
