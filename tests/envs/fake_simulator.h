// A simulator in a thread, which does what a test tells it to. Its environment
// i counts: the observation is {session, i, step of the episode}, the reward
// the action. An episode of an even environment terminates after 3 steps, one
// of an odd environment is truncated after 4.

#ifndef QFLEET_TESTS_ENVS_FAKE_SIMULATOR_H_
#define QFLEET_TESTS_ENVS_FAKE_SIMULATOR_H_

#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "envs/framed_socket.h"
#include "qfleet/v1/config.pb.h"
#include "qfleet/v1/environment.pb.h"
#include "tests/temp_directory.h"

namespace qfleet {

class FakeSimulator {
 public:
  enum class Answer {
    kReply,
    kClose,  // Closes the connection instead.
    kHang,   // Answers nothing.
    kHuge,   // Announces 4 GiB.
    kNoise,  // Sends what is no message.
  };
  // Of the request number `step` of a session, 0 being `make`; may change the
  // reply.
  using Script =
      std::function<Answer(int session, int step, v1::EnvironmentReply& reply)>;

  explicit FakeSimulator(
      Script script = [](int, int,
                         v1::EnvironmentReply&) { return Answer::kReply; },
      bool masks = false);
  ~FakeSimulator();

  std::string path() const { return directory_.path() + "/simulator"; }
  // environment { remote { ... } } of it.
  v1::EnvironmentConfig Config(double deadline = 20) const;

  // The seeds of each session so far.
  std::vector<std::vector<uint64_t>> seeds() const;

 private:
  void Run();
  void Serve(FramedSocket socket, int descriptor, int session);
  v1::EnvironmentReply Make(const v1::MakeRequest& request, int session);
  v1::EnvironmentReply Step(const v1::StepRequest& request, int session);
  void AddRow(int session, size_t i, std::string& rows) const;
  void AddMask(size_t i, std::string& rows) const;

  const Script script_;
  const bool masks_;
  TempDirectory directory_;
  int listening_ = -1;
  std::vector<int> steps_;  // Of the running session.
  mutable absl::Mutex mutex_;
  std::vector<std::vector<uint64_t>> seeds_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace qfleet

#endif  // QFLEET_TESTS_ENVS_FAKE_SIMULATOR_H_
