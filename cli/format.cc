#include "cli/format.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace qfleet {
namespace {

bool StartsCharacter(char c) {
  return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
}

// Commas between the thousands of a number's whole part.
std::string Grouped(std::string text) {
  const size_t whole = std::min(text.find('.'), text.size());
  for (int i = static_cast<int>(whole) - 3; i > 0; i -= 3) {
    text.insert(i, 1, ',');
  }
  return text;
}

bool IsNumeric(const std::string& cell) {
  return cell.empty() || absl::ascii_isdigit(cell[0]) || cell[0] == '-';
}

}  // namespace

std::string WithCommas(uint64_t value) { return Grouped(absl::StrCat(value)); }

std::string WithCommas(double value, int digits) {
  if (!std::isfinite(value) || std::abs(value) >= 1e15) {
    return absl::StrFormat("%g", value);
  }
  const std::string text =
      Grouped(absl::StrFormat("%.*f", digits, std::abs(value)));
  return value < 0 ? absl::StrCat("-", text) : text;
}

std::string Short(double value) {
  const double size = std::abs(value);
  if (size >= 1000) return WithCommas(value, 0);
  return absl::StrFormat(size >= 100 ? "%.4g" : "%.3g", value);
}

std::string Bytes(uint64_t bytes) {
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  double value = static_cast<double>(bytes);
  const char* const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  return absl::StrFormat("%.1f %s", value, units[unit]);
}

std::string Seconds(double seconds) {
  if (seconds < 60) return absl::StrFormat("%.1f s", seconds);
  const int64_t whole = static_cast<int64_t>(seconds);
  if (whole < 3600) return absl::StrFormat("%d:%02d", whole / 60, whole % 60);
  return absl::StrFormat("%d:%02d:%02d", whole / 3600, whole / 60 % 60,
                         whole % 60);
}

int DisplayWidth(absl::string_view text) {
  return static_cast<int>(
      std::count_if(text.begin(), text.end(), StartsCharacter));
}

std::string CutToWidth(absl::string_view text, int width) {
  int columns = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (StartsCharacter(text[i]) && columns++ == width) {
      return std::string(text.substr(0, i));
    }
  }
  return std::string(text);
}

std::string PadLeft(absl::string_view text, int width) {
  return absl::StrCat(std::string(std::max(0, width - DisplayWidth(text)), ' '),
                      text);
}

std::string PadRight(absl::string_view text, int width) {
  return absl::StrCat(
      text, std::string(std::max(0, width - DisplayWidth(text)), ' '));
}

std::string AlignedTable(const std::vector<std::vector<std::string>>& rows) {
  if (rows.empty()) return "";
  const size_t columns = rows[0].size();
  std::vector<int> width(columns, 0);
  std::vector<bool> right(columns, true);
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t j = 0; j < columns; ++j) {
      width[j] = std::max(width[j], DisplayWidth(rows[i][j]));
      if (i > 0 && !IsNumeric(rows[i][j])) right[j] = false;
    }
  }
  std::string table;
  for (const auto& row : rows) {
    std::string line;
    for (size_t j = 0; j < columns; ++j) {
      absl::StrAppend(
          &line, j == 0 ? "" : "  ",
          right[j] ? PadLeft(row[j], width[j]) : PadRight(row[j], width[j]));
    }
    absl::StripTrailingAsciiWhitespace(&line);
    absl::StrAppend(&table, line, "\n");
  }
  return table;
}

}  // namespace qfleet
