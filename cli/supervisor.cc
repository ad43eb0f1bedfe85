#include "cli/supervisor.h"

#include <signal.h>

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/process.h"
#include "common/status_macros.h"

namespace qfleet {
namespace {

constexpr absl::Duration kStopPoll = absl::Milliseconds(10);

RunEnd Failure(const ChildSpec& child, const ChildExit& exit) {
  RunEnd end;
  end.exit_code =
      exit.signal == 0 && exit.code == kExitUsage ? kExitUsage : kExitFailed;
  end.error = absl::StrCat(child.name, " ", exit.Text());
  const std::string line = LastLine(child.log);
  if (!line.empty()) absl::StrAppend(&end.error, ": ", line);
  return end;
}

}  // namespace

absl::Status Supervisor::Start(SupervisedProcess process) {
  absl::StatusOr<Child> child = Child::Start(process.child);
  if (!child.ok()) return child.status();
  auto slot = std::make_unique<Slot>();
  slot->process = std::move(process);
  slot->child = std::make_unique<Child>(*std::move(child));
  slots_.push_back(std::move(slot));
  return absl::OkStatus();
}

std::optional<RunEnd> Supervisor::Poll() {
  // First the processes whose end is the run's: the others may end with them.
  for (const bool ends_run : {true, false}) {
    for (const auto& slot : slots_) {
      if (slot->process.ends_run != ends_run) continue;
      std::optional<RunEnd> end;
      if (slot->child == nullptr) {
        if (options_.now() >= slot->restart_at) end = Restart(*slot);
      } else if (auto exit = slot->child->Poll(); exit.has_value()) {
        slot->child.reset();
        end = Ended(*slot, *exit);
      }
      if (end.has_value()) return end;
    }
  }
  return std::nullopt;
}

std::optional<RunEnd> Supervisor::Ended(Slot& slot, const ChildExit& exit) {
  const ChildSpec& child = slot.process.child;
  slot.restart_at = absl::InfiniteFuture();
  if (slot.process.ends_run) {
    if (slot.process.follows && exit.signal == 0 &&
        (exit.code == kExitReached || exit.code == kExitNotReached ||
         exit.code == kExitStopped)) {
      return std::nullopt;
    }
    if (exit.signal == 0 &&
        (exit.code == kExitReached || exit.code == kExitNotReached)) {
      return RunEnd{exit.code, ""};
    }
    if (exit.signal == 0 && exit.code == kExitStopped) {
      return RunEnd{exit.code,
                    absl::StrCat(child.name,
                                 " was stopped by a signal of someone else, "
                                 "before the run's stop condition")};
    }
    if (slot.process.resume_flags.empty()) return Failure(child, exit);
  }
  // A config error stays one however often the process is started.
  if (exit.signal == 0 && exit.code == kExitUsage) return Failure(child, exit);
  std::optional<RunEnd> end = PlanRestart(slot, exit);
  if (end.has_value()) return end;
  std::vector<std::string>& command = slot.process.child.command;
  for (const std::string& flag : slot.process.resume_flags) {
    if (std::find(command.begin(), command.end(), flag) == command.end()) {
      command.push_back(flag);
    }
  }
  return std::nullopt;
}

std::optional<RunEnd> Supervisor::PlanRestart(Slot& slot,
                                              const ChildExit& exit) {
  const ChildSpec& child = slot.process.child;
  const absl::Time now = options_.now();
  while (!slot.restarts.empty() &&
         slot.restarts.front() <= now - options_.restart_window) {
    slot.restarts.pop_front();
  }
  if (static_cast<int>(slot.restarts.size()) >= options_.max_restarts) {
    return Failure(child, exit);
  }
  slot.restarts.push_back(now);
  slot.restart_at = now + options_.restart_delay;
  options_.notice(absl::StrCat(child.name, " ", exit.Text(), "; restarting"));
  return std::nullopt;
}

std::optional<RunEnd> Supervisor::Restart(Slot& slot) {
  absl::StatusOr<Child> child = Child::Start(slot.process.child);
  if (!child.ok()) {
    slot.restart_at = absl::InfiniteFuture();
    return RunEnd{kExitFailed, std::string(child.status().message())};
  }
  slot.child = std::make_unique<Child>(*std::move(child));
  return std::nullopt;
}

void Supervisor::Stop() {
  std::map<int, std::vector<Slot*>> groups;
  for (const auto& slot : slots_) {
    groups[slot->process.stop_order].push_back(slot.get());
  }
  for (const auto& [order, group] : groups) StopGroup(group);
  slots_.clear();
}

void Supervisor::StopGroup(const std::vector<Slot*>& group) {
  for (Slot* slot : group) {
    if (slot->child != nullptr) slot->child->Signal(SIGTERM);
  }
  const absl::Time start = absl::Now();
  for (Slot* slot : group) {
    while (slot->child != nullptr && !slot->child->Poll().has_value()) {
      if (absl::Now() - start >= slot->process.grace) break;
      absl::SleepFor(kStopPoll);
    }
    slot->child.reset();  // Kills it if it still runs.
  }
}

}  // namespace qfleet
