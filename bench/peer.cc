#include "bench/peer.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace qfleet::bench {

Peer::Peer(const std::vector<std::string>& command,
           const std::vector<std::pair<std::string, std::string>>& environment)
    : name_(command[0]) {
  // Writing to a program that has ended is an error here, not our end.
  signal(SIGPIPE, SIG_IGN);
  int in[2] = {-1, -1};
  int out[2] = {-1, -1};
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) return;
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    for (const auto& [name, value] : environment) {
      setenv(name.c_str(), value.c_str(), 1);
    }
    std::vector<char*> arguments;
    for (const std::string& argument : command) {
      arguments.push_back(const_cast<char*>(argument.c_str()));
    }
    arguments.push_back(nullptr);
    execvp(arguments[0], arguments.data());
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  to_ = fdopen(in[1], "w");
  from_ = fdopen(out[0], "r");
}

Peer::~Peer() {
  if (to_ != nullptr) fclose(to_);
  if (pid_ > 0) waitpid(pid_, nullptr, 0);
  if (from_ != nullptr) fclose(from_);
}

absl::StatusOr<std::string> Peer::Ask(const std::string& line) {
  const bool asked = to_ != nullptr && fprintf(to_, "%s\n", line.c_str()) > 0 &&
                     fflush(to_) == 0;
  std::string answer;
  int c = EOF;
  while (asked && (c = fgetc(from_)) != EOF && c != '\n') {
    answer += static_cast<char>(c);
  }
  if (c == '\n') return answer;
  return absl::UnavailableError(
      absl::StrCat(name_, " ended when it was asked \"", line, "\""));
}

absl::StatusOr<double> Peer::AskNumber(const std::string& line) {
  QFLEET_ASSIGN_OR_RETURN(const std::string answer, Ask(line));
  double value = 0;
  if (absl::SimpleAtod(answer, &value)) return value;
  return absl::InternalError(absl::StrCat(name_, " answered \"", line,
                                          "\" with \"", answer,
                                          "\": allowed is a number"));
}

}  // namespace qfleet::bench
