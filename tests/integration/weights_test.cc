// The learner's Weights service and the actor's subscriber over a real socket.
#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "actor/policy.h"
#include "common/grpc.h"
#include "common/hash.h"
#include "common/metrics.h"
#include "envs/registry.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "learner/publisher.h"
#include "learner/resume.h"
#include "learner/run.h"
#include "learner/run_backend.h"
#include "model/network.h"
#include "model/weight_layout.h"
#include "tests/process.h"
#include "weights/weight_subscriber.h"
#include "weights/weights_service.h"

namespace qfleet {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(20);

class WeightsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "qfleet_weights_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    config_.mutable_environment()->set_id("CartPole-v1");
    config_.mutable_stop()->set_mean_return(100);
    network_ = MakeNetwork(8);
    run_ = std::make_unique<qfleet::Run>(config_, directory_, metrics_);
    ASSERT_TRUE(run_->Open().ok());
    StartServer();
  }
  void TearDown() override {
    StopServer();
    std::filesystem::remove_all(directory_);
  }

  std::string address() const { return "unix:" + directory_ + "/s"; }

  std::shared_ptr<const Network> MakeNetwork(int hidden) {
    v1::Config config;
    config.mutable_network()->add_hidden(hidden);
    auto environment = MakeEnvironment(config_.environment());
    return *Network::Make(config, (*environment)->spec());
  }

  void StartServer(const v1::Publication* resume = nullptr) {
    publisher_ =
        std::make_unique<Publisher>(network_->signature(), LayoutOf(*network_));
    if (resume != nullptr) publisher_->Resume(*resume);
    backend_ = std::make_unique<RunBackend>(*run_);
    service_ = std::make_unique<WeightsService>("learner", *backend_);
    publisher_->OnPublish([this](auto publication, auto calibrate) {
      EXPECT_EQ(service_->Publish(publication, calibrate), absl::OkStatus());
    });
    server_ = std::make_unique<GrpcServer>();
    Publish(0);
    absl::Status status = server_->Start(address(), {service_.get()});
    ASSERT_TRUE(status.ok()) << status;
  }

  void StopServer() {
    service_->CloseSubscriptions();
    server_->Shutdown(absl::Seconds(1));
    server_.reset();
  }

  WeightSubscriberOptions Options(std::shared_ptr<const Network> network,
                                  const std::string& role,
                                  v1::WeightCodec codec = v1::FP32) {
    return {.address = address(),
            .network = network->signature(),
            .role = role,
            .codec = codec,
            .check =
                [network](const v1::Publication& publication) {
                  return CheckPublication(publication, *network);
                },
            .on_publication = nullptr};
  }

  // Parameters all equal to `value`.
  void Publish(float value) {
    const std::vector<float> values(network_->parameter_count(), value);
    publisher_->Publish(
        std::string(reinterpret_cast<const char*>(values.data()),
                    values.size() * sizeof(float)),
        static_cast<uint64_t>(value));
  }

  std::string directory_;
  v1::Config config_;
  Metrics metrics_;
  std::shared_ptr<const Network> network_;
  std::unique_ptr<qfleet::Run> run_;
  std::unique_ptr<Publisher> publisher_;
  std::unique_ptr<RunBackend> backend_;
  std::unique_ptr<WeightsService> service_;
  std::unique_ptr<GrpcServer> server_;
};

TEST_F(WeightsTest, ASubscriberHasTheNewestAndThenEachNewer) {
  WeightSubscriber subscriber(Options(network_, "actor"));
  auto first = subscriber.WaitNewest(0, kPatience);
  ASSERT_TRUE(first.ok() && *first != nullptr);
  EXPECT_EQ((*first)->version(), 1u);
  EXPECT_EQ(*subscriber.Newest(1), nullptr);
  for (int i = 1; i <= 500; ++i) Publish(i);
  // It may skip some and must end with the last.
  uint64_t version = 1;
  while (version < 501) {
    auto next = subscriber.WaitNewest(version, kPatience);
    ASSERT_TRUE(next.ok() && *next != nullptr) << "after " << version;
    ASSERT_GT((*next)->version(), version);
    version = (*next)->version();
    EXPECT_EQ((*next)->hash(), Hash64((*next)->parameters()));
  }
  EXPECT_EQ(subscriber.rejected(), 0u);
}

TEST_F(WeightsTest, AnotherNetworkIsRefusedInWords) {
  WeightSubscriber subscriber(Options(MakeNetwork(9), "actor"));
  auto result = subscriber.WaitNewest(0, kPatience);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(
      std::string(result.status().message()),
      testing::AllOf(testing::HasSubstr("mlp 9"), testing::HasSubstr("mlp 8")));
}

// It waited for a version higher than the dead learner's.
TEST_F(WeightsTest, ASubscriberFollowsALearnerThatBeginsAt1Again) {
  WeightSubscriber subscriber(Options(network_, "actor"));
  for (int i = 1; i <= 9; ++i) Publish(i);
  uint64_t version = 0;
  while (version < 10) {
    auto next = subscriber.WaitNewest(version, kPatience);
    ASSERT_TRUE(next.ok() && *next != nullptr);
    version = (*next)->version();
  }
  StopServer();
  StartServer();
  auto next = subscriber.WaitNewest(version, kPatience);
  ASSERT_TRUE(next.ok() && *next != nullptr);
  EXPECT_EQ((*next)->version(), 1u);
}

TEST_F(WeightsTest, ASubscriberFollowsALearnerThatWasResumed) {
  WeightSubscriber subscriber(Options(network_, "actor"));
  auto before = subscriber.WaitNewest(0, kPatience);
  ASSERT_TRUE(before.ok() && *before != nullptr);
  // Of what was published since the checkpoint it knows nothing.
  v1::Publication saved = **before;
  for (int i = 1; i <= 5; ++i) Publish(i);
  uint64_t version = 1;
  while (version < 6) {
    auto next = subscriber.WaitNewest(version, kPatience);
    ASSERT_TRUE(next.ok() && *next != nullptr);
    version = (*next)->version();
  }
  StopServer();
  saved.set_version(VersionOfNextLife(saved.version()));
  StartServer(&saved);
  auto next = subscriber.WaitNewest(version, kPatience);
  ASSERT_TRUE(next.ok() && *next != nullptr);
  EXPECT_GT((*next)->version(), version);
}

// Now and then it took many seconds: nobody polled the socket between calls
// that failed at once. In a process of its own, because here the server polls.
TEST_F(WeightsTest, AnActorThatWasThereFirstConnectsSoon) {
  network_ = MakeNetwork(128);  // The actor's.
  for (int round = 0; round < 6; ++round) {
    StopServer();
    Process actor(
        {QFLEET_BIN_DIR "/qfleet-actor",
         "--config=" QFLEET_SOURCE_DIR "/configs/cartpole.txtpb",
         "--set=network.hidden=128", "--set=cluster.learner=" + address(),
         "--set=cluster.replay=unix:" + directory_ + "/none"},
        // Not the last round's words, which the new one may not have cut off
        // yet.
        directory_ + "/actor-" + std::to_string(round) + ".log");
    ASSERT_TRUE(actor.WaitUntil(
        [&] {
          return actor.Output().find("not connected") != std::string::npos;
        },
        20))
        << actor.Output();
    StartServer();
    EXPECT_TRUE(actor.WaitUntil(
        [this] { return service_->Actors().connected == 1; }, 2.5))
        << "round " << round << ": " << actor.Output();
  }
}

TEST_F(WeightsTest, AnEvaluationReachesTheRun) {
  WeightSubscriber subscriber(Options(network_, "evaluator"));
  v1::EvaluationReport report;
  EXPECT_EQ(subscriber.Report(report).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(run_->outcome(), Outcome::kNone);
  report.mutable_policy()->set_version(3);
  report.mutable_evaluation()->set_episodes(20);
  report.mutable_evaluation()->set_mean_return(100);
  EXPECT_TRUE(subscriber.Report(report).ok());
  EXPECT_EQ(run_->outcome(), Outcome::kReached);
}

// As one that is stopped as soon as it has connected.
TEST_F(WeightsTest, ThePolicyOfAnActorThatNeverReportsAges) {
  WeightSubscriber actor(Options(network_, "actor"));
  ASSERT_NE(*actor.WaitNewest(0, kPatience), nullptr);
  const absl::Time deadline = absl::Now() + kPatience;
  while (service_->Actors().oldest_policy_seconds < 0.3 &&
         absl::Now() < deadline) {
  }
  const ActorsView view = service_->Actors();
  EXPECT_EQ(view.connected, 1u);
  EXPECT_GE(view.oldest_policy_seconds, 0.3);
  EXPECT_LT(view.oldest_policy_seconds, 60);
  EXPECT_EQ(view.oldest_policy_version, 0u);
}

TEST_F(WeightsTest, ActorsAreCountedWithTheirProgressAndEvaluatorsAreNot) {
  WeightSubscriber evaluator(Options(network_, "evaluator"));
  ASSERT_NE(*evaluator.WaitNewest(0, kPatience), nullptr);
  {
    WeightSubscriber actor(Options(network_, "actor"));
    ASSERT_NE(*actor.WaitNewest(0, kPatience), nullptr);
    v1::SubscribeRequest progress;
    progress.set_policy_version(1);
    progress.set_policy_age_seconds(2);
    // The first report is where counting begins.
    for (uint64_t episodes : {10, 14, 15}) {
      progress.set_episodes(episodes);
      progress.set_return_sum(20.0 * static_cast<double>(episodes));
      actor.Report(progress);
    }
    const absl::Time deadline = absl::Now() + kPatience;
    while (service_->Actors().episodes < 5 && absl::Now() < deadline) {
    }
    const ActorsView view = service_->Actors();
    EXPECT_EQ(view.connected, 1u);
    EXPECT_EQ(view.episodes, 5u);
    EXPECT_EQ(view.return_sum, 100);
    EXPECT_GE(view.oldest_policy_seconds, 2);
  }
  const absl::Time deadline = absl::Now() + kPatience;
  while (service_->Actors().connected > 0 && absl::Now() < deadline) {
  }
  EXPECT_EQ(service_->Actors().connected, 0u);
  EXPECT_EQ(service_->Actors().episodes, 5u);
}

}  // namespace
}  // namespace qfleet
