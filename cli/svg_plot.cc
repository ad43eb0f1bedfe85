#include "cli/svg_plot.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/format.h"

namespace qfleet {
namespace {

// In pixels of the document.
constexpr double kWidth = 720;
constexpr double kChartHeight = 330;
constexpr double kLeft = 74;
constexpr double kRight = 24;
constexpr double kBelow = 56;  // Labels of the x axis.
constexpr double kTitleHeight = 34;
constexpr double kLegendRow = 22;
constexpr double kNoteHeight = 20;
constexpr double kSwatch = 26;    // A legend's piece of line.
constexpr double kCharacter = 8;  // Of legend text, on the wide side.
constexpr int kTitleCharacters = 70;
constexpr int kLegendCharacters = 60;

struct Stroke {
  const char* colour;
  const char* dashes;  // SVG's stroke-dasharray; empty: solid.
};

// Okabe and Ito's colours without yellow, which a white ground swallows; then
// the same again with dashes.
Stroke StrokeOf(size_t curve) {
  static constexpr const char* kColours[] = {"#0072B2", "#D55E00", "#009E73",
                                             "#CC79A7", "#E69F00", "#56B4E9",
                                             "#000000"};
  static constexpr const char* kDashes[] = {"", "7 4", "2 4"};
  const size_t colours = std::size(kColours);
  return {kColours[curve % colours],
          kDashes[curve / colours % std::size(kDashes)]};
}

std::string DashAttribute(const Stroke& stroke) {
  if (*stroke.dashes == '\0') return "";
  return absl::StrCat(" stroke-dasharray=\"", stroke.dashes, "\"");
}

std::string Pixels(double value) { return absl::StrFormat("%.2f", value); }

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void Add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  // Never empty, so that it can be divided by its width.
  Range Widened() const {
    if (low > high) return {0, 1};
    if (low < high) return *this;
    const double margin = low == 0 ? 1 : std::abs(low) / 10;
    return {low - margin, high + margin};
  }
};

struct Axis {
  Range range;
  std::vector<double> ticks;
  double step() const { return ticks.size() < 2 ? 1 : ticks[1] - ticks[0]; }
};

Axis XAxis(const Plot& plot) {
  Axis axis;
  axis.range.Add(0);
  for (const PlotCurve& curve : plot.curves) {
    for (const PlotPoint& point : curve.line) axis.range.Add(point.x);
  }
  if (axis.range.high <= axis.range.low) axis.range.high = axis.range.low + 1;
  axis.ticks = Ticks(axis.range.low, axis.range.high, 8);
  return axis;
}

Axis YAxis(const Plot& plot) {
  Axis axis;
  for (const PlotCurve& curve : plot.curves) {
    for (const PlotPoint& point : curve.line) axis.range.Add(point.y);
    for (const BandPoint& point : curve.band) {
      axis.range.Add(point.low);
      axis.range.Add(point.high);
    }
  }
  axis.range = axis.range.Widened();
  axis.ticks = Ticks(axis.range.low, axis.range.high, 7);
  // Out to the next tick on both sides.
  const double step = axis.step();
  axis.range = {std::floor(axis.range.low / step + 1e-9) * step,
                std::ceil(axis.range.high / step - 1e-9) * step};
  axis.ticks = Ticks(axis.range.low, axis.range.high, 9);
  return axis;
}

// Where each legend entry stands, in rows below one another.
struct LegendPlace {
  double x = 0;
  int row = 0;
};

std::vector<std::string> LegendNames(const Plot& plot) {
  std::vector<std::string> names;
  for (const PlotCurve& curve : plot.curves) {
    names.push_back(
        DisplayWidth(curve.name) <= kLegendCharacters
            ? curve.name
            : absl::StrCat(CutToWidth(curve.name, kLegendCharacters - 1),
                           "\u2026"));
  }
  return names;
}

std::vector<LegendPlace> PlaceLegend(const std::vector<std::string>& names) {
  std::vector<LegendPlace> places;
  double x = kLeft;
  int row = 0;
  for (const std::string& name : names) {
    const double width = kSwatch + 8 + DisplayWidth(name) * kCharacter + 16;
    if (x > kLeft && x + width > kWidth - kRight) {
      x = kLeft;
      ++row;
    }
    places.push_back({x, row});
    x += width;
  }
  return places;
}

class Drawing {
 public:
  explicit Drawing(const Plot& plot)
      : plot_(plot),
        names_(LegendNames(plot)),
        places_(PlaceLegend(names_)),
        x_axis_(XAxis(plot)),
        y_axis_(YAxis(plot)) {
    legend_top_ = plot.title.empty() ? 12 : 12 + kTitleHeight;
    note_top_ = legend_top_ +
                kLegendRow * (places_.empty() ? 0 : places_.back().row + 1);
    top_ = note_top_ + (plot.note.empty() ? 0 : kNoteHeight) + 12;
    bottom_ = top_ + kChartHeight;
    height_ = bottom_ + kBelow;
  }

  std::string Draw() {
    absl::StrAppendFormat(
        &svg_,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%g\" height=\"%g\" "
        "viewBox=\"0 0 %g %g\" font-family=\"Helvetica, Arial, 'DejaVu Sans', "
        "sans-serif\" font-size=\"14\">\n"
        "<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n",
        kWidth, height_, kWidth, height_);
    DrawTexts();
    DrawLegend();
    DrawAxes();
    for (size_t i = 0; i < plot_.curves.size(); ++i) DrawBand(i);
    for (size_t i = 0; i < plot_.curves.size(); ++i) DrawLine(i);
    svg_ += "</svg>\n";
    return std::move(svg_);
  }

 private:
  double X(double value) const {
    const Range& range = x_axis_.range;
    return kLeft + (value - range.low) / (range.high - range.low) *
                       (kWidth - kLeft - kRight);
  }
  double Y(double value) const {
    const Range& range = y_axis_.range;
    return bottom_ -
           (value - range.low) / (range.high - range.low) * kChartHeight;
  }

  void Text(double x, double y, const std::string& attributes,
            absl::string_view text) {
    absl::StrAppend(&svg_, "<text x=\"", Pixels(x), "\" y=\"", Pixels(y), "\" ",
                    attributes, ">", EscapeXml(text), "</text>\n");
  }

  void Line(double x1, double y1, double x2, double y2,
            const std::string& attributes) {
    absl::StrAppend(&svg_, "<line x1=\"", Pixels(x1), "\" y1=\"", Pixels(y1),
                    "\" x2=\"", Pixels(x2), "\" y2=\"", Pixels(y2), "\" ",
                    attributes, "/>\n");
  }

  void DrawTexts() {
    if (!plot_.title.empty()) {
      absl::StrAppend(&svg_, "<title>", EscapeXml(plot_.title), "</title>\n");
      const bool fits = DisplayWidth(plot_.title) <= kTitleCharacters;
      Text(kWidth / 2, 32,
           "text-anchor=\"middle\" font-size=\"17\" font-weight=\"bold\" "
           "fill=\"#222222\"",
           fits ? plot_.title
                : absl::StrCat(CutToWidth(plot_.title, kTitleCharacters - 1),
                               "\u2026"));
    }
    if (!plot_.note.empty()) {
      Text(kLeft, note_top_ + 14, "font-size=\"12\" fill=\"#666666\"",
           plot_.note);
    }
    Text((kLeft + kWidth - kRight) / 2, bottom_ + 44,
         "text-anchor=\"middle\" fill=\"#222222\"", plot_.x_label);
    const std::string middle = Pixels((top_ + bottom_) / 2);
    Text(20, (top_ + bottom_) / 2,
         absl::StrCat("text-anchor=\"middle\" fill=\"#222222\" "
                      "transform=\"rotate(-90 20 ",
                      middle, ")\""),
         plot_.y_label);
  }

  void DrawLegend() {
    for (size_t i = 0; i < names_.size(); ++i) {
      const Stroke stroke = StrokeOf(i);
      const double y = legend_top_ + kLegendRow * (places_[i].row + 0.5);
      Line(places_[i].x, y, places_[i].x + kSwatch, y,
           absl::StrCat("stroke=\"", stroke.colour, "\" stroke-width=\"3\"",
                        DashAttribute(stroke)));
      Text(places_[i].x + kSwatch + 8, y + 5, "fill=\"#222222\"", names_[i]);
    }
  }

  void DrawAxes() {
    for (double tick : y_axis_.ticks) {
      Line(kLeft, Y(tick), kWidth - kRight, Y(tick), "stroke=\"#e4e4e4\"");
      Text(kLeft - 8, Y(tick) + 5, "text-anchor=\"end\" fill=\"#444444\"",
           TickLabel(tick, y_axis_.step()));
    }
    for (double tick : x_axis_.ticks) {
      Line(X(tick), top_, X(tick), bottom_, "stroke=\"#e4e4e4\"");
      Line(X(tick), bottom_, X(tick), bottom_ + 5, "stroke=\"#444444\"");
      Text(X(tick), bottom_ + 21, "text-anchor=\"middle\" fill=\"#444444\"",
           TickLabel(tick, x_axis_.step()));
    }
    Line(kLeft, top_, kLeft, bottom_, "stroke=\"#444444\"");
    Line(kLeft, bottom_, kWidth - kRight, bottom_, "stroke=\"#444444\"");
  }

  void DrawBand(size_t curve) {
    const std::vector<BandPoint>& band = plot_.curves[curve].band;
    if (band.empty()) return;
    std::string path = "M";
    for (const BandPoint& point : band) {
      absl::StrAppend(&path, Pixels(X(point.x)), ",", Pixels(Y(point.high)),
                      " ");
    }
    for (auto point = band.rbegin(); point != band.rend(); ++point) {
      absl::StrAppend(&path, Pixels(X(point->x)), ",", Pixels(Y(point->low)),
                      " ");
    }
    absl::StrAppend(&svg_, "<path class=\"band\" d=\"", path, "Z\" fill=\"",
                    StrokeOf(curve).colour, "\" fill-opacity=\"0.15\"/>\n");
  }

  void DrawLine(size_t curve) {
    const std::vector<PlotPoint>& line = plot_.curves[curve].line;
    const Stroke stroke = StrokeOf(curve);
    std::string path;
    for (const PlotPoint& point : line) {
      absl::StrAppend(&path, path.empty() ? "M" : " ", Pixels(X(point.x)), ",",
                      Pixels(Y(point.y)));
    }
    absl::StrAppend(&svg_, "<path class=\"curve\" d=\"", path,
                    "\" fill=\"none\" stroke=\"", stroke.colour,
                    "\" stroke-width=\"2\" stroke-linejoin=\"round\"",
                    DashAttribute(stroke), "/>\n");
    if (line.size() == 1) {  // A path of one point shows nothing.
      absl::StrAppend(&svg_, "<circle cx=\"", Pixels(X(line[0].x)), "\" cy=\"",
                      Pixels(Y(line[0].y)), "\" r=\"4\" fill=\"", stroke.colour,
                      "\"/>\n");
    }
  }

  const Plot& plot_;
  const std::vector<std::string> names_;
  const std::vector<LegendPlace> places_;
  const Axis x_axis_;
  const Axis y_axis_;
  double legend_top_ = 0;
  double note_top_ = 0;
  double top_ = 0;  // Of the chart, as is bottom_.
  double bottom_ = 0;
  double height_ = 0;
  std::string svg_;
};

// Bytes of the UTF-8 character at the front of `text` if XML 1.0 allows it,
// else 0.
size_t CharacterBytes(absl::string_view text) {
  auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(0);
  if (first < 0x80) {
    return first >= 0x20 || first == '\t' || first == '\n' || first == '\r';
  }
  const size_t bytes = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < bytes) return 0;
  uint32_t code = first & (0xFF >> (bytes + 1));
  for (size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3F);
  }
  const bool overlong =
      (bytes == 3 && code < 0x800) || (bytes == 4 && code < 0x10000);
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  const bool no_character = code == 0xFFFE || code == 0xFFFF;
  return overlong || surrogate || no_character || code > 0x10FFFF ? 0 : bytes;
}

}  // namespace

std::string DrawSvg(const Plot& plot) { return Drawing(plot).Draw(); }

std::vector<double> Ticks(double low, double high, int most) {
  // Counts multiples of `step` from the range's ends by whole numbers, so that
  // no sum of steps drifts; the margin takes up what rounding does.
  auto first = [&](double step) { return std::ceil(low / step - 1e-9); };
  auto last = [&](double step) { return std::floor(high / step + 1e-9); };
  double power = std::pow(
      10, std::floor(std::log10((high - low) / std::max(most, 2))) - 1);
  double step = power;
  for (int i = 0; last(step) - first(step) + 1 > std::max(most, 2); ++i) {
    static constexpr double kSteps[] = {2, 5, 10};
    step = power * kSteps[i % 3];
    if (i % 3 == 2) power *= 10;
  }
  std::vector<double> ticks;
  for (double n = first(step); n <= last(step); ++n) {
    // + 0 makes -0 a 0. Dividing by a power of ten is exact where multiplying
    // by its inverse is not.
    ticks.push_back((step < 1 ? n / std::round(1 / step) : n * step) + 0.0);
  }
  return ticks;
}

std::string TickLabel(double value, double step) {
  static constexpr std::pair<double, const char*> kUnits[] = {
      {1e9, "G"}, {1e6, "M"}, {1e3, "k"}};
  if (value == 0) return "0";
  double unit = 1;
  const char* suffix = "";
  for (const auto& [size, name] : kUnits) {
    if (std::abs(value) < size) continue;
    unit = size;
    suffix = name;
    break;
  }
  int digits = 0;
  for (double s = step / unit; digits < 12 && s - std::floor(s + 1e-6) > 1e-6;
       ++digits) {
    s *= 10;
  }
  // 2,000 beside 2,500 is "2k", not "2.0k", but 0.5 beside 1 is "1.0".
  std::string text = absl::StrFormat("%.*f", digits, value / unit);
  if (unit > 1 && digits > 0) {
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
  }
  return absl::StrCat(text, suffix);
}

std::string EscapeXml(absl::string_view text) {
  std::string escaped;
  while (!text.empty()) {
    const size_t bytes = CharacterBytes(text);
    if (bytes == 0) {
      escaped += "\uFFFD";
    } else if (text[0] == '&') {
      escaped += "&amp;";
    } else if (text[0] == '<') {
      escaped += "&lt;";
    } else if (text[0] == '>') {
      escaped += "&gt;";
    } else if (text[0] == '"') {
      escaped += "&quot;";
    } else if (text[0] == '\'') {
      escaped += "&#39;";
    } else {
      absl::StrAppend(&escaped, text.substr(0, bytes));
    }
    text.remove_prefix(std::max<size_t>(bytes, 1));
  }
  return escaped;
}

}  // namespace qfleet
