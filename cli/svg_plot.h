// A chart of curves as a self-contained SVG: white background, axes with round
// ticks, light grid, legend above the chart, colours that colour-blind people
// tell apart (Okabe and Ito 2008). Readable from 600 pixels of width on.
//
// All functions are pure.

#ifndef QFLEET_CLI_SVG_PLOT_H_
#define QFLEET_CLI_SVG_PLOT_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace qfleet {

struct PlotPoint {
  double x = 0;
  double y = 0;
};

struct BandPoint {
  double x = 0;
  double low = 0;
  double high = 0;
};

struct PlotCurve {
  std::string name;
  std::vector<PlotPoint> line;  // At least one; x ascends.
  std::vector<BandPoint> band;  // Shaded behind the line; empty: none.
};

struct Plot {
  std::string title;  // Any text; empty: none.
  std::string note;   // Small, below the legend; empty: none.
  std::string x_label;
  std::string y_label;
  std::vector<PlotCurve> curves;
};

// The document. The x axis begins at 0 (or at the least value below it), the y
// axis ends at ticks around all values. Each curve is one <path class="curve">,
// each band one <path class="band">; a curve of one point has a <circle> too.
std::string DrawSvg(const Plot& plot);

// The multiples of a step 1, 2 or 5 times a power of ten in [low, high], the
// least such step that gives at most `most` of them (at least 2). Values are
// finite, low < high.
std::vector<double> Ticks(double low, double high, int most);

// A tick's label with the digits that its step needs, thousands and millions
// shortened: "0", "250", "2.5k", "1M", "0.05".
std::string TickLabel(double value, double step);

// Text for an element or a quoted attribute. What XML cannot hold (control
// characters, bytes that are not UTF-8) becomes U+FFFD.
std::string EscapeXml(absl::string_view text);

}  // namespace qfleet

#endif  // QFLEET_CLI_SVG_PLOT_H_
