// A block of lines at the bottom of a terminal, redrawn in place.

#ifndef QFLEET_CLI_TERMINAL_H_
#define QFLEET_CLI_TERMINAL_H_

#include <string>
#include <vector>

namespace qfleet {

struct TerminalSize {
  int columns = 80;
  int rows = 24;
};

// Of standard output; 80 x 24 if it does not say.
TerminalSize GetTerminalSize();

// What turns a block of `shown` lines, below which the cursor stands, into
// `lines`. Overwrites before it clears, and is meant for one write, so that
// nothing flickers.
std::string RedrawText(int shown, const std::vector<std::string>& lines);

// Draws on standard output. Thread-compatible. The cursor is never hidden: a
// killed process leaves a usable terminal.
class LiveDisplay {
 public:
  // As many lines as fit, from the top.
  void Draw(const std::vector<std::string>& lines);

  // Prints a line above the block; Draw brings the block back.
  void Print(const std::string& line);

 private:
  int shown_ = 0;
};

}  // namespace qfleet

#endif  // QFLEET_CLI_TERMINAL_H_
