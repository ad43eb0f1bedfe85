// What was measured: rows of sides, each with its rounds, and checks against
// targets; as text in Markdown and as JSON.

#ifndef QFLEET_BENCH_REPORT_H_
#define QFLEET_BENCH_REPORT_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "nlohmann/json.hpp"

namespace qfleet::bench {

// Of at least one value; `quantile` 0 to 1.
double Quantile(absl::Span<const double> values, double quantile);
inline double Median(absl::Span<const double> values) {
  return Quantile(values, 0.5);
}
// Of the rounds' ratios: the two sides of a round ran one after the other, so
// that what else the machine did weighs on both.
double MedianRatio(absl::Span<const double> numerators,
                   absl::Span<const double> denominators);

// "AMD EPYC, 2 cores".
std::string MachineText();

struct Side {
  std::string name;
  std::vector<double> rounds;
  double bytes_per_unit = 0;  // 0: there are no bytes to speak of.
  // CPU us of all processes, client included, for an item: less changed than
  // rates by what else the machine does. Empty: not measured.
  std::vector<double> cost_rounds = {};
};

struct Check {
  std::string what;
  double measured = 0;
  bool at_least = true;  // Else at most.
  double target = 0;
  bool met() const {
    return at_least ? measured >= target : measured <= target;
  }
};

struct Row {
  std::string title;
  std::string unit;
  std::vector<Side> sides;
  std::vector<Check> checks;
  std::string skipped;  // Why; empty: it was measured.
};

class Report {
 public:
  // Prints it too, so that one sees how far it is.
  void Add(Row row);

  // All checks as a table.
  void PrintChecks() const;
  // Writes a JSON file: `about`, the machine, the rows. An empty path: nothing.
  absl::Status Write(const std::string& path, nlohmann::json about) const;

 private:
  std::vector<Row> rows_;
};

}  // namespace qfleet::bench

#endif  // QFLEET_BENCH_REPORT_H_
