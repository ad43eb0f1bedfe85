#include "cli/local_run.h"

#include <unistd.h>

#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "cli/cluster.h"
#include "cli/progress.h"
#include "cli/report_reader.h"
#include "cli/supervisor.h"
#include "cli/terminal.h"
#include "common/checkpoint_file.h"
#include "common/files.h"
#include "common/process.h"
#include "common/status_macros.h"
#include "config/config.h"

namespace qfleet {
namespace {

// How often the processes and the reports are looked at.
constexpr absl::Duration kPoll = absl::Milliseconds(50);
constexpr absl::Duration kRedraw = absl::Milliseconds(250);

// Tells the person at the terminal, or the reader of the pipe, how the run
// goes.
class Reporter {
 public:
  Reporter(const std::string& run_dir, const v1::Config& config)
      : terminal_(isatty(STDOUT_FILENO) == 1),
        start_(absl::Now()),
        reader_(run_dir + "/metrics.jsonl"),
        progress_(std::filesystem::path(run_dir).filename().string(), config) {
    // What earlier lives of the run have said: part of its curve.
    for (const v1::RunReport& report : reader_.Poll()) progress_.Add(report);
  }

  void Say(const std::string& line) {
    if (terminal_) {
      display_.Print(line);
    } else {
      std::cout << line << std::endl;
    }
  }

  void Update() {
    for (const v1::RunReport& report : reader_.Poll()) {
      for (const std::string& line : progress_.Add(report)) {
        if (!terminal_) std::cout << line << std::endl;
      }
    }
    if (terminal_ && absl::Now() - drawn_ >= kRedraw) Draw();
  }

  // The last picture stays, and the words after it.
  void End(const std::string& line) {
    Update();
    if (terminal_) Draw();
    std::cout << line << std::endl;
  }

  const Progress& progress() const { return progress_; }

 private:
  void Draw() {
    drawn_ = absl::Now();
    display_.Draw(progress_.Display(absl::ToDoubleSeconds(drawn_ - start_),
                                    GetTerminalSize().columns - 1));
  }

  const bool terminal_;
  const absl::Time start_;
  absl::Time drawn_ = absl::InfinitePast();
  ReportReader reader_;
  Progress progress_;
  LiveDisplay display_;
};

void SayHello(const std::string& run_dir, const v1::Config& config, bool solo,
              Reporter& reporter) {
  reporter.Say(absl::StrCat("run directory: ", ShownPath(run_dir)));
  if (solo) return;
  const std::string path = config.cluster().learner().substr(5);  // unix:
  const std::string with =
      config.cluster().security().token_file().empty()
          ? ""
          : absl::StrCat("--config=", ShownPath(run_dir), "/config.txtpb ");
  reporter.Say(
      absl::StrCat("status: qfleet status ", with, "unix:", ShownPath(path)));
}

// Once, as soon as the learner serves it.
class PageNotice {
 public:
  PageNotice(const std::string& run_dir, bool solo)
      : path_(absl::StrCat(run_dir, "/ready/", solo ? "solo" : "learner")) {}

  void Look(Reporter& reporter) {
    if (said_) return;
    const absl::StatusOr<std::string> text = ReadFile(path_);
    if (!text.ok()) return;
    for (absl::string_view line : absl::StrSplit(*text, '\n')) {
      if (!absl::ConsumePrefix(&line, "metrics ")) continue;
      reporter.Say(absl::StrCat("status page: http://", line, "/"));
      said_ = true;
    }
  }

 private:
  const std::string path_;
  bool said_ = false;
};

// How the run ended, in a sentence.
std::string LastWords(const std::optional<RunEnd>& end,
                      const std::string& run_dir, const Progress& progress) {
  if (end.has_value() && end->error.empty()) {
    return progress.Summary(end->exit_code == kExitReached);
  }
  const char* how = !end.has_value()                 ? "interrupted"
                    : end->exit_code == kExitStopped ? "stopped"
                                                     : "failed";
  const std::vector<std::string> checkpoints =
      ListCheckpoints(run_dir + "/checkpoints");
  return absl::StrCat(
      how, "; checkpoint: ",
      checkpoints.empty() ? "none" : ShownPath(checkpoints.front()));
}

}  // namespace

std::string AbsoluteRunDirectory(const std::string& path) {
  std::error_code error;
  std::string absolute =
      std::filesystem::absolute(path, error).lexically_normal().string();
  if (absolute.size() > 1 && absolute.back() == '/') absolute.pop_back();
  return absolute;
}

absl::StatusOr<int> RunLocally(LocalRun run, v1::Config config,
                               ShutdownSignal& shutdown) {
  const std::string& run_dir = run.run_dir;
  const bool solo = run.mode == RunMode::kSolo;
  QFLEET_ASSIGN_OR_RETURN(const std::string binaries, BinaryDirectory());
  std::unique_ptr<SocketDirectory> sockets;
  SetLocalSecurity(config);
  if (!solo) {
    QFLEET_ASSIGN_OR_RETURN(sockets, SocketDirectory::Make(run_dir));
    SetAddresses(sockets->path(), config);
  }
  // Addresses of an earlier life.
  std::error_code ignored;
  std::filesystem::remove_all(run_dir + "/ready", ignored);
  QFLEET_RETURN_IF_ERROR(MakeWritableDirectory(run_dir + "/ready"));
  QFLEET_RETURN_IF_ERROR(WriteRunMode(run_dir, run.mode));
  QFLEET_RETURN_IF_ERROR(
      WriteFileAtomically(run_dir + "/config.txtpb", ConfigText(config)));

  Reporter reporter(run_dir, config);
  Supervisor::Options options;
  options.notice = [&](const std::string& line) { reporter.Say(line); };
  Supervisor supervisor(options);
  SayHello(run_dir, config, solo, reporter);
  for (SupervisedProcess& process :
       ProcessesOf(config, run_dir, binaries, solo, run.resume)) {
    process.child.command.push_back("--log_format=" + run.log_format);
    QFLEET_RETURN_IF_ERROR(supervisor.Start(std::move(process)));
  }
  PageNotice page(run_dir, solo);
  std::optional<RunEnd> end;
  while (!(end = supervisor.Poll()).has_value()) {
    page.Look(reporter);
    reporter.Update();
    if (shutdown.WaitFor(kPoll)) break;
  }
  // A signal to all processes of a job may end the learner before it is seen
  // here.
  if (end.has_value() && end->exit_code == kExitStopped &&
      shutdown.requested()) {
    end.reset();
  }
  if (!end.has_value()) reporter.Say("interrupted; stopping");
  supervisor.Stop();
  reporter.Update();  // What came while they stopped.
  reporter.End(LastWords(end, run_dir, reporter.progress()));
  std::cout << "run directory: " << ShownPath(run_dir) << std::endl;
  if (!end.has_value()) return kExitFailed;
  if (!end->error.empty()) {
    std::cerr << "qfleet: " << end->error << std::endl;
  }
  // The run was not ended by its own: that is no success of this command.
  return end->exit_code == kExitStopped ? kExitFailed : end->exit_code;
}

}  // namespace qfleet
