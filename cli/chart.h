// A small curve in Braille characters: two by four dots a character.

#ifndef QFLEET_CLI_CHART_H_
#define QFLEET_CLI_CHART_H_

#include <string>
#include <vector>

namespace qfleet {

struct ChartPoint {
  double x = 0;
  double y = 0;
};

// Lines of text: `height` rows of `width` characters with the ends of the y
// axis at their left, then the x axis with its ends and `x_label`. x goes from
// 0 to the last point's, y from 0 (or the least value below it) to `top` or
// the greatest value. `points` ascend in x; nothing is drawn without any.
std::vector<std::string> Chart(const std::vector<ChartPoint>& points,
                               double top, const std::string& x_label,
                               int width, int height);

}  // namespace qfleet

#endif  // QFLEET_CLI_CHART_H_
