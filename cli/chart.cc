#include "cli/chart.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "cli/format.h"

namespace qfleet {
namespace {

// Dots of one picture; (0, 0) is at the lower left.
class Canvas {
 public:
  Canvas(int width, int height)
      : width_(width), height_(height), cells_(width * height, 0) {}

  int columns() const { return width_ * 2; }
  int rows() const { return height_ * 4; }

  void Set(int x, int y) {
    // Bits of U+2800: dots 1 2 3 7 go down the left, 4 5 6 8 the right.
    static constexpr uint8_t kBits[2][4] = {{0x01, 0x02, 0x04, 0x40},
                                            {0x08, 0x10, 0x20, 0x80}};
    const int down = rows() - 1 - y;
    cells_[down / 4 * width_ + x / 2] |= kBits[x % 2][down % 4];
  }

  std::string Row(int row) const {
    std::string text;
    for (int i = 0; i < width_; ++i) {
      const uint8_t bits = cells_[row * width_ + i];
      if (bits == 0) {
        text += ' ';
        continue;
      }
      // UTF-8 of U+2800 + bits.
      text += '\xE2';
      text += static_cast<char>(0xA0 | (bits >> 6));
      text += static_cast<char>(0x80 | (bits & 0x3F));
    }
    return text;
  }

 private:
  const int width_;
  const int height_;
  std::vector<uint8_t> cells_;
};

struct Dot {
  int x = 0;
  int y = 0;
};

void DrawLine(Dot from, Dot to, Canvas& canvas) {
  const int steps =
      std::max({std::abs(to.x - from.x), std::abs(to.y - from.y), 1});
  for (int i = 0; i <= steps; ++i) {
    const double share = static_cast<double>(i) / steps;
    canvas.Set(from.x + static_cast<int>(std::lround((to.x - from.x) * share)),
               from.y + static_cast<int>(std::lround((to.y - from.y) * share)));
  }
}

}  // namespace

std::vector<std::string> Chart(const std::vector<ChartPoint>& points,
                               double top, const std::string& x_label,
                               int width, int height) {
  std::vector<std::string> lines;
  if (points.empty() || width < 1 || height < 1) return lines;
  double low = 0;
  double high = top;
  for (const ChartPoint& point : points) {
    low = std::min(low, point.y);
    high = std::max(high, point.y);
  }
  if (high <= low) high = low + 1;
  const double end = std::max(points.back().x, 1.0);

  Canvas canvas(width, height);
  auto dot = [&](const ChartPoint& point) {
    return Dot{
        static_cast<int>(std::lround(point.x / end * (canvas.columns() - 1))),
        static_cast<int>(
            std::lround((point.y - low) / (high - low) * (canvas.rows() - 1)))};
  };
  for (size_t i = 0; i < points.size(); ++i) {
    DrawLine(dot(points[i == 0 ? 0 : i - 1]), dot(points[i]), canvas);
  }

  const std::string top_label = Short(high);
  const std::string low_label = Short(low);
  const int margin = std::max(DisplayWidth(top_label), DisplayWidth(low_label));
  for (int row = 0; row < height; ++row) {
    const std::string label =
        row == 0 ? top_label : (row == height - 1 ? low_label : "");
    lines.push_back(
        absl::StrCat(PadLeft(label, margin), " \u2502", canvas.Row(row)));
    absl::StripTrailingAsciiWhitespace(&lines.back());
  }
  std::string axis;
  for (int i = 0; i < width; ++i) axis += "\u2500";
  lines.push_back(absl::StrCat(PadLeft("", margin), " \u2514", axis));
  const std::string end_label = absl::StrCat(WithCommas(end, 0), " ", x_label);
  lines.push_back(absl::StrCat(PadLeft("", margin + 2), "0",
                               PadLeft(end_label, width - 1)));
  return lines;
}

}  // namespace qfleet
