// A run's reports as text: lines for a pipe, a display for a terminal, and the
// sentence at the end. Text only; terminal.h draws it.

#ifndef QFLEET_CLI_PROGRESS_H_
#define QFLEET_CLI_PROGRESS_H_

#include <string>
#include <vector>

#include "qfleet/v1/config.pb.h"
#include "qfleet/v1/weights.pb.h"

namespace qfleet {

// One plain line: "12.0 s  env steps 21,504 (1,532/s)  updates ...".
std::string ReportLine(const v1::RunReport& report);

// "evaluation: mean return 487.6, ...".
std::string EvaluationLine(const v1::Evaluation& evaluation,
                           const v1::StopConfig& stop);

// Thread-compatible.
class Progress {
 public:
  // `config` is resolved.
  Progress(std::string name, const v1::Config& config);

  // Takes the run's next report. The plain lines that it is worth: an
  // evaluation that is new, and the report unless the last line is less than a
  // second older.
  std::vector<std::string> Add(const v1::RunReport& report);

  // Lines of at most `width` columns.
  std::vector<std::string> Display(double elapsed_seconds, int width) const;

  // The sentence at the end of a run that the learner ended: `reached` or a
  // bound came first.
  std::string Summary(bool reached) const;

 private:
  std::string EvaluationText() const;
  std::vector<std::string> Curve(int width) const;

  const std::string name_;
  const v1::Config config_;
  v1::RunReport last_;
  double last_line_seconds_;
  std::vector<v1::Evaluation> evaluations_;
};

}  // namespace qfleet

#endif  // QFLEET_CLI_PROGRESS_H_
