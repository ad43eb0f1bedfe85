#include "cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>

#include "absl/strings/str_cat.h"

namespace qfleet {

TerminalSize GetTerminalSize() {
  TerminalSize size;
  winsize window = {};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0) {
    if (window.ws_col > 0) size.columns = window.ws_col;
    if (window.ws_row > 0) size.rows = window.ws_row;
  }
  return size;
}

std::string RedrawText(int shown, const std::vector<std::string>& lines) {
  std::string text;
  if (shown > 0) absl::StrAppend(&text, "\x1b[", shown, "A\r");
  for (const std::string& line : lines) {
    absl::StrAppend(&text, line, "\x1b[K\n");
  }
  absl::StrAppend(&text, "\x1b[J");  // What is left of a longer block.
  return text;
}

void LiveDisplay::Draw(const std::vector<std::string>& lines) {
  const int rows = std::max(1, GetTerminalSize().rows - 1);
  std::vector<std::string> fitting = lines;
  if (static_cast<int>(fitting.size()) > rows) fitting.resize(rows);
  std::cout << RedrawText(shown_, fitting) << std::flush;
  shown_ = static_cast<int>(fitting.size());
}

void LiveDisplay::Print(const std::string& line) {
  std::cout << RedrawText(shown_, {line}) << std::flush;
  shown_ = 0;
}

}  // namespace qfleet
