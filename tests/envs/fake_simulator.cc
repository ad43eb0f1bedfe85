#include "tests/envs/fake_simulator.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "gtest/gtest.h"

namespace qfleet {
namespace {

constexpr size_t kMaxBytes = 1 << 24;
constexpr absl::Duration kPatience = absl::Minutes(2);

}  // namespace

FakeSimulator::FakeSimulator(Script script, bool masks)
    : script_(std::move(script)), masks_(masks) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path().c_str(), sizeof(address.sun_path) - 1);
  listening_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(
      bind(listening_, reinterpret_cast<sockaddr*>(&address), sizeof(address)),
      0);
  EXPECT_EQ(listen(listening_, 8), 0);
  thread_ = std::thread([this] { Run(); });
}

// Whoever was connected has closed the connection before.
FakeSimulator::~FakeSimulator() {
  shutdown(listening_, SHUT_RDWR);
  thread_.join();
  close(listening_);
}

v1::EnvironmentConfig FakeSimulator::Config(double deadline) const {
  v1::EnvironmentConfig config;
  config.mutable_remote()->set_address("unix:" + path());
  config.mutable_remote()->set_deadline(deadline);
  return config;
}

std::vector<std::vector<uint64_t>> FakeSimulator::seeds() const {
  absl::MutexLock lock(&mutex_);
  return seeds_;
}

void FakeSimulator::Run() {
  for (int session = 0;; ++session) {
    const int descriptor = accept(listening_, nullptr, nullptr);
    if (descriptor < 0) return;
    Serve(FramedSocket(descriptor), descriptor, session);
  }
}

void FakeSimulator::Serve(FramedSocket socket, int descriptor, int session) {
  std::string message;
  for (int step = 0;; ++step) {
    if (!socket.Receive(kMaxBytes, kPatience, message).ok()) return;
    v1::EnvironmentRequest request;
    EXPECT_TRUE(request.ParseFromString(message));
    v1::EnvironmentReply reply = request.has_make()
                                     ? Make(request.make(), session)
                                     : Step(request.step(), session);
    switch (script_(session, step, reply)) {
      case Answer::kReply:
        if (!socket.Send(reply.SerializeAsString(), kPatience).ok()) return;
        break;
      case Answer::kClose:
        return;
      case Answer::kHang:  // The next thing to come is the end.
        EXPECT_FALSE(socket.Receive(kMaxBytes, kPatience, message).ok());
        return;
      case Answer::kHuge:
        EXPECT_EQ(send(descriptor, "\xff\xff\xff\xff", 4, MSG_NOSIGNAL), 4);
        EXPECT_FALSE(socket.Receive(kMaxBytes, kPatience, message).ok());
        return;
      case Answer::kNoise:
        EXPECT_TRUE(socket.Send("\xff\xff\xff", kPatience).ok());
        break;
    }
  }
}

v1::EnvironmentReply FakeSimulator::Make(const v1::MakeRequest& request,
                                         int session) {
  {
    absl::MutexLock lock(&mutex_);
    seeds_.emplace_back(request.seeds().begin(), request.seeds().end());
  }
  EXPECT_EQ(request.seeds_size(), static_cast<int>(request.count()));
  steps_.assign(request.count(), 0);
  v1::EnvironmentReply reply;
  reply.mutable_make()->set_protocol(request.protocol());
  v1::EnvironmentSpec& spec = *reply.mutable_make()->mutable_spec();
  spec.mutable_observation()->set_name("observation");
  spec.mutable_observation()->set_dtype(v1::FLOAT32);
  spec.mutable_observation()->add_shape(3);
  spec.set_num_actions(2);
  spec.set_has_action_mask(masks_);
  for (size_t i = 0; i < steps_.size(); ++i) {
    AddRow(session, i, *reply.mutable_observations());
    AddMask(i, *reply.mutable_action_masks());
  }
  return reply;
}

v1::EnvironmentReply FakeSimulator::Step(const v1::StepRequest& request,
                                         int session) {
  v1::EnvironmentReply reply;
  EXPECT_EQ(request.actions_size(), static_cast<int>(steps_.size()));
  for (size_t i = 0; i < steps_.size(); ++i) {
    ++steps_[i];
    const bool terminated = i % 2 == 0 && steps_[i] == 3;
    const bool truncated = i % 2 == 1 && steps_[i] == 4;
    reply.add_rewards(static_cast<float>(request.actions(i)));
    reply.add_terminated(terminated);
    reply.add_truncated(truncated);
    if (terminated || truncated) {
      AddRow(session, i, *reply.mutable_final_observations());
      AddMask(i, *reply.mutable_final_action_masks());
      steps_[i] = 0;
    }
    AddRow(session, i, *reply.mutable_observations());
    AddMask(i, *reply.mutable_action_masks());
  }
  return reply;
}

void FakeSimulator::AddRow(int session, size_t i, std::string& rows) const {
  const float row[3] = {static_cast<float>(session), static_cast<float>(i),
                        static_cast<float>(steps_[i])};
  rows.append(reinterpret_cast<const char*>(row), sizeof(row));
}

// Action step % 2 is legal.
void FakeSimulator::AddMask(size_t i, std::string& rows) const {
  if (!masks_) return;
  rows.push_back(static_cast<char>(steps_[i] % 2 == 0));
  rows.push_back(static_cast<char>(steps_[i] % 2 == 1));
}

}  // namespace qfleet
