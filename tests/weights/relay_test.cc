// The Weights service and relays over real sockets, without a network: what is
// published are numbers.
#include "relay/relay.h"

#include <sched.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/grpc.h"
#include "common/hash.h"
#include "common/metrics.h"
#include "gmock/gmock.h"
#include "grpcpp/client_context.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "tests/temp_directory.h"
#include "weights/publication.h"
#include "weights/weight_subscriber.h"
#include "weights/weights_service.h"

namespace qfleet {
namespace {

using testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr int kRow = 64;

bool Until(const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + kPatience;
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    sched_yield();
  }
  return true;
}

// `rows` channels, each with a bias; all differ, and with `version`.
v1::Publication MakePublication(uint64_t version, int rows = 8,
                                const std::string& network = "n") {
  v1::Publication publication;
  publication.set_version(version);
  publication.set_updates(10 * version);
  publication.set_network(network);
  publication.add_layout()->set_size(rows * kRow);
  publication.mutable_layout(0)->set_channels(rows);
  publication.add_layout()->set_size(rows);
  std::vector<float> values(rows * (kRow + 1));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>((i * 37 + version) % 101) - 50.3F;
  }
  publication.set_parameters(reinterpret_cast<const char*>(values.data()),
                             values.size() * sizeof(float));
  publication.set_hash(Hash64(publication.parameters()));
  return publication;
}

// A learner's run, as far as its service knows it.
class FakeRun : public WeightsBackend {
 public:
  void RecordEvaluation(const v1::EvaluationReport& evaluation,
                        grpc::CallbackServerContext&,
                        std::function<void(absl::Status)> done) override {
    {
      absl::MutexLock lock(&mutex_);
      last_ = evaluation;
    }
    done(absl::OkStatus());
  }
  void Describe(v1::RunReport& run, grpc::CallbackServerContext&,
                std::function<void(absl::Status)> done) override {
    run.set_updates(123);
    done(absl::OkStatus());
  }
  v1::EvaluationReport last() const {
    absl::MutexLock lock(&mutex_);
    return last_;
  }

 private:
  mutable absl::Mutex mutex_;
  v1::EvaluationReport last_ ABSL_GUARDED_BY(mutex_);
};

// A learner's side.
struct Learner {
  explicit Learner(const std::string& address) : service("learner", run) {
    absl::Status status = server.Start(address, {&service});
    EXPECT_TRUE(status.ok()) << status;
  }
  ~Learner() {
    service.CloseSubscriptions();
    server.Shutdown(absl::Seconds(1));
  }
  void Publish(v1::Publication publication) {
    EXPECT_EQ(service.Publish(std::make_shared<const v1::Publication>(
                  std::move(publication))),
              absl::OkStatus());
  }

  FakeRun run;
  WeightsService service;
  GrpcServer server;
};

class RelayTest : public testing::Test {
 protected:
  void SetUp() override {
    learner_ = std::make_unique<Learner>(learner_address());
    relay_ = StartRelay(learner_address(), relay_address(), metrics_);
  }
  // Its clients go before it, it before the learner.
  void TearDown() override { relay_.reset(); }

  std::string learner_address() const {
    return absl::StrCat("unix:", directory_.path(), "/l");
  }
  std::string relay_address() const {
    return absl::StrCat("unix:", directory_.path(), "/r");
  }

  static std::unique_ptr<Relay> StartRelay(const std::string& learner,
                                           const std::string& listen,
                                           Metrics& metrics,
                                           v1::WeightCodec codec = v1::FP32) {
    auto relay = Relay::Start(
        {.learner = learner, .listen = listen, .codec = codec}, metrics);
    EXPECT_TRUE(relay.ok()) << relay.status();
    return *std::move(relay);
  }

  std::unique_ptr<WeightSubscriber> Subscribe(
      const std::string& address, v1::WeightCodec codec = v1::FP32,
      const std::string& network = "n") {
    return std::make_unique<WeightSubscriber>(WeightSubscriberOptions{
        .address = address,
        .network = network,
        .role = "actor",
        .codec = codec,
        .check =
            [](const v1::Publication& publication) {
              return CheckWhole(publication, publication.layout());
            },
        .on_publication = nullptr});
  }

  // What a subscriber has once it has this version; nothing if it never has.
  static v1::Publication Await(WeightSubscriber& subscriber, uint64_t version) {
    v1::Publication last;
    EXPECT_TRUE(Until([&] {
      auto next = subscriber.WaitNewest(last.version(), absl::Seconds(1));
      EXPECT_TRUE(next.ok()) << next.status();
      if (!next.ok() || *next == nullptr) return !next.ok();
      last = **next;
      return last.version() == version;
    })) << "is at version "
        << last.version();
    return last;
  }

  // The relay reports until the learner sees it so.
  bool LearnerSees(const std::function<bool(const ActorsView&)>& condition) {
    return Until([&] {
      EXPECT_EQ(relay_->Report(), absl::OkStatus());
      return condition(learner_->service.Actors());
    });
  }

  TempDirectory directory_;
  std::unique_ptr<Learner> learner_;
  Metrics metrics_;
  std::unique_ptr<Relay> relay_;
};

TEST_F(RelayTest, EachSubscriberHasTheFormThatItAsksFor) {
  uint64_t first = 1;
  for (const std::string& address : {learner_address(), relay_address()}) {
    std::vector<std::unique_ptr<WeightSubscriber>> subscribers;
    const std::vector<v1::WeightCodec> codecs = {v1::INT8, v1::FP32, v1::BF16,
                                                 v1::INT8};
    for (v1::WeightCodec codec : codecs) {
      subscribers.push_back(Subscribe(address, codec));
    }
    for (uint64_t version : {first, first + 1}) {
      learner_->Publish(MakePublication(version));
      const v1::Publication fp32 = MakePublication(version);
      for (size_t i = 0; i < codecs.size(); ++i) {
        const v1::Publication got = Await(*subscribers[i], version);
        EXPECT_EQ(got.SerializeAsString(),
                  EncodePublication(fp32, codecs[i])->SerializeAsString())
            << v1::WeightCodec_Name(codecs[i]);
        EXPECT_EQ(subscribers[i]->rejected(), 0u);
      }
    }
    first += 2;
  }
}

// One that does not read holds up nobody, and is not sent what has become old.
TEST_F(RelayTest, ASlowSubscriberSkipsToTheNewest) {
  constexpr int kRows = 4096;  // 1 MiB.
  constexpr uint64_t kVersions = 100;
  learner_->Publish(MakePublication(1, kRows));
  for (const std::string& address : {learner_address(), relay_address()}) {
    auto stub = v1::Weights::NewStub(MakeChannel(address));
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    auto slow = stub->Subscribe(&context);
    v1::SubscribeRequest hello;
    hello.set_network("n");
    hello.set_role("actor");
    ASSERT_TRUE(slow->Write(hello));
    v1::Publication read;
    ASSERT_TRUE(slow->Read(&read));
    auto quick = Subscribe(address);
    const uint64_t begin = Await(*quick, read.version()).version();
    for (uint64_t v = begin + 1; v <= begin + kVersions; ++v) {
      learner_->Publish(MakePublication(v, kRows));
      Await(*quick, v);
    }
    int messages = 0;
    while (read.version() < begin + kVersions && slow->Read(&read)) ++messages;
    EXPECT_EQ(read.version(), begin + kVersions);
    // Some were on their way: flow control's window, and one message each side.
    EXPECT_LE(messages, 20);
    context.TryCancel();
    slow->Finish();
  }
}

TEST_F(RelayTest, AnotherNetworkIsRefusedInTheLearnersWords) {
  // It was there before anyone knew the network.
  auto early = Subscribe(relay_address(), v1::FP32, "another");
  ASSERT_TRUE(
      Until([this] { return relay_->service().stats().subscribers == 1; }));
  learner_->Publish(MakePublication(1));
  EXPECT_TRUE(Until([&] { return !early->Newest(0).ok(); }));
  auto at_learner = Subscribe(learner_address(), v1::FP32, "another");
  auto at_relay = Subscribe(relay_address(), v1::FP32, "another");
  const std::string words = "network = \"another\": allowed is \"n\"";
  for (WeightSubscriber* subscriber :
       {early.get(), at_learner.get(), at_relay.get()}) {
    const absl::Status status = subscriber->WaitNewest(0, kPatience).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr(words));
  }
  // Only a relay takes whatever comes.
  auto anyone = Subscribe(relay_address(), v1::FP32, "");
  EXPECT_THAT(std::string(anyone->WaitNewest(0, kPatience).status().message()),
              HasSubstr("network = \"\": allowed is \"n\""));
}

TEST_F(RelayTest, ALearnerOfAnotherNetworkTakesTheRelayAndRefusesItsActors) {
  learner_->Publish(MakePublication(1));
  auto actor = Subscribe(relay_address());
  Await(*actor, 1);
  learner_.reset();
  learner_ = std::make_unique<Learner>(learner_address());
  learner_->Publish(MakePublication(1, 4, "another"));
  EXPECT_TRUE(Until([&] { return !actor->Newest(1).ok(); }));
  auto fits = Subscribe(relay_address(), v1::INT8, "another");
  EXPECT_EQ(Await(*fits, 1).network(), "another");
}

TEST_F(RelayTest, WhileTheLearnerIsAwayItsLastPublicationIsServed) {
  learner_->Publish(MakePublication(1));
  auto first = Subscribe(relay_address());
  Await(*first, 1);
  learner_.reset();
  auto second = Subscribe(relay_address(), v1::INT8);
  Await(*second, 1);
  // Resumed; and one that starts afresh.
  for (uint64_t version : {uint64_t{1'000'000'000}, uint64_t{1}}) {
    learner_ = std::make_unique<Learner>(learner_address());
    learner_->Publish(MakePublication(version, 4));
    EXPECT_EQ(Await(*first, version).layout(0).channels(), 4u);
    EXPECT_EQ(Await(*second, version).layout(0).channels(), 4u);
    EXPECT_TRUE(LearnerSees(
        [](const ActorsView& view) { return view.connected == 2; }));
    learner_.reset();
  }
}

// What has come is not sent again because a connection has ended.
TEST_F(RelayTest, AReconnectIsNoPublication) {
  learner_->Publish(MakePublication(5));
  auto actor = Subscribe(relay_address());
  Await(*actor, 5);
  ASSERT_TRUE(Until([this] { return relay_->service().stats().sent == 1; }));
  learner_.reset();
  learner_ = std::make_unique<Learner>(learner_address());
  learner_->Publish(MakePublication(5));
  EXPECT_TRUE(
      LearnerSees([](const ActorsView& view) { return view.connected == 1; }));
  learner_->Publish(MakePublication(6));
  Await(*actor, 6);
  EXPECT_TRUE(Until([this] { return relay_->service().stats().sent >= 2; }));
  EXPECT_EQ(relay_->service().stats().sent, 2u);
}

TEST_F(RelayTest, TheLearnerCountsTheActorsBehindRelays) {
  learner_->Publish(MakePublication(1));
  auto direct = Subscribe(learner_address());
  Await(*direct, 1);
  // Everything counts from what a connection says first.
  ASSERT_TRUE(
      LearnerSees([](const ActorsView& view) { return view.connected == 1; }));
  uint64_t episodes = 0;
  uint64_t env_steps = 0;
  const auto monotone = [&](const ActorsView& view) {
    EXPECT_GE(view.episodes, episodes);
    EXPECT_GE(view.env_steps, env_steps);
    episodes = view.episodes;
    env_steps = view.env_steps;
  };
  for (uint64_t round = 1; round <= 4; ++round) {
    auto one = Subscribe(relay_address());
    auto two = Subscribe(relay_address(), v1::INT8);
    Await(*one, 1);
    Await(*two, 1);
    EXPECT_TRUE(LearnerSees([&](const ActorsView& view) {
      monotone(view);
      return view.connected == 3;
    }));
    v1::SubscribeRequest progress;
    progress.set_policy_version(1);
    for (uint64_t i = 0; i <= 5; ++i) {
      // They have done much before they came here, which is no news.
      progress.set_episodes(1000 * round + i);
      progress.set_env_steps(100 * i);
      progress.set_return_sum(-3.0 * static_cast<double>(i));
      progress.set_policy_age_seconds(static_cast<double>(i));
      one->Report(progress);
      two->Report(progress);
    }
    EXPECT_TRUE(LearnerSees([&](const ActorsView& view) {
      monotone(view);
      return view.episodes == 10 * round;
    }));
    const ActorsView view = learner_->service.Actors();
    EXPECT_EQ(view.env_steps, 1000 * round);
    EXPECT_EQ(view.return_sum, -30.0 * static_cast<double>(round));
    EXPECT_EQ(view.oldest_policy_version, 1u);
    EXPECT_GE(view.oldest_policy_seconds, 5);
    one.reset();
    two.reset();
    // They are gone, and what they did stays counted.
    EXPECT_TRUE(LearnerSees([&](const ActorsView& now) {
      monotone(now);
      return now.connected == 1;
    }));
    EXPECT_EQ(learner_->service.Actors().episodes, 10 * round);
  }
  // A learner that comes back counts from what the relay says then.
  const uint64_t before = learner_->service.Actors().episodes;
  direct.reset();
  learner_.reset();
  learner_ = std::make_unique<Learner>(learner_address());
  learner_->service.Resume(before, -120);
  learner_->Publish(MakePublication(2));
  auto actor = Subscribe(relay_address());
  Await(*actor, 2);
  EXPECT_TRUE(
      LearnerSees([](const ActorsView& view) { return view.connected == 1; }));
  EXPECT_EQ(learner_->service.Actors().episodes, before);
  v1::SubscribeRequest progress;
  progress.set_policy_version(2);
  actor->Report(progress);
  progress.set_episodes(7);
  actor->Report(progress);
  EXPECT_TRUE(LearnerSees(
      [&](const ActorsView& view) { return view.episodes == before + 7; }));
}

TEST_F(RelayTest, EvaluationsAndQuestionsAreHandedOn) {
  auto stub = v1::Weights::NewStub(MakeChannel(relay_address()));
  const auto call = [](grpc::ClientContext& context) {
    context.set_wait_for_ready(true);
    context.set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
  };
  v1::RunReport run;
  {
    grpc::ClientContext context;
    call(context);
    EXPECT_TRUE(stub->Describe(&context, {}, &run).ok());
    EXPECT_EQ(run.updates(), 123u);
  }
  auto evaluator = Subscribe(relay_address());
  v1::EvaluationReport report;
  EXPECT_EQ(evaluator->Report(report).code(),
            absl::StatusCode::kInvalidArgument);
  report.mutable_evaluation()->set_episodes(3);
  *report.mutable_policy() = MakePublication(9);
  EXPECT_EQ(evaluator->Report(report), absl::OkStatus());
  EXPECT_EQ(learner_->run.last().SerializeAsString(),
            report.SerializeAsString());

  learner_.reset();
  EXPECT_TRUE(Until([&] {
    grpc::ClientContext context;
    call(context);
    const grpc::Status status = stub->Describe(&context, {}, &run);
    EXPECT_THAT(status.error_message(), HasSubstr(learner_address()));
    return status.error_code() == grpc::StatusCode::UNAVAILABLE;
  }));
  learner_ = std::make_unique<Learner>(learner_address());
  EXPECT_TRUE(Until([&] {
    grpc::ClientContext context;
    call(context);
    return stub->Describe(&context, {}, &run).ok();
  }));
}

TEST_F(RelayTest, ARelayOfARelayIsARelay) {
  Metrics metrics;
  const std::string address = absl::StrCat("unix:", directory_.path(), "/r2");
  std::unique_ptr<Relay> second = StartRelay(relay_address(), address, metrics);
  learner_->Publish(MakePublication(3));
  auto actor = Subscribe(address, v1::BF16);
  EXPECT_EQ(
      Await(*actor, 3).SerializeAsString(),
      EncodePublication(MakePublication(3), v1::BF16)->SerializeAsString());
  EXPECT_TRUE(LearnerSees([&](const ActorsView& view) {
    EXPECT_EQ(second->Report(), absl::OkStatus());
    return view.connected == 1;
  }));
}

TEST_F(RelayTest, MetricsSayHowItIs) {
  learner_->Publish(MakePublication(4));
  auto actor = Subscribe(relay_address());
  Await(*actor, 4);
  EXPECT_TRUE(Until([this] { return relay_->service().stats().sent == 1; }));
  EXPECT_TRUE(
      LearnerSees([](const ActorsView& view) { return view.connected == 1; }));
  const std::string text = metrics_.Text();
  for (const char* line :
       {"qfleet_relay_subscribers 1\n", "qfleet_relay_actors 1\n",
        "qfleet_relay_learner_connected 1\n", "qfleet_relay_policy_version 4\n",
        "qfleet_relay_publications_received_total 1\n",
        "qfleet_relay_publications_sent_total 1\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  EXPECT_THAT(text,
              HasSubstr(absl::StrCat("qfleet_relay_sent_bytes_total ",
                                     MakePublication(4).ByteSizeLong(), "\n")));
  learner_.reset();
  EXPECT_TRUE(Until([this] {
    EXPECT_EQ(relay_->Report(), absl::OkStatus());
    return metrics_.Text().find("qfleet_relay_learner_connected 0\n") !=
           std::string::npos;
  }));
}

TEST_F(RelayTest, WhatIsNotWholeIsNotPassedOn) {
  learner_->Publish(MakePublication(1));
  auto actor = Subscribe(relay_address());
  Await(*actor, 1);
  v1::Publication damaged = MakePublication(2);
  damaged.set_hash(damaged.hash() + 1);
  learner_->Publish(damaged);
  EXPECT_TRUE(Until([this] {
    EXPECT_EQ(relay_->Report(), absl::OkStatus());
    return metrics_.Text().find(
               "qfleet_relay_publications_rejected_total 1\n") !=
           std::string::npos;
  }));
  EXPECT_EQ((*actor->Newest(0))->version(), 1u);
  learner_->Publish(MakePublication(3));
  EXPECT_EQ(Await(*actor, 3).version(), 3u);
  EXPECT_EQ(actor->rejected(), 0u);
}

// What the learner rounds with care is not rounded again.
TEST_F(RelayTest, ARelayOfAFormPassesItOnAndHasNoOther) {
  Metrics metrics;
  const std::string address = absl::StrCat(relay_address(), "2");
  std::unique_ptr<Relay> relay =
      StartRelay(learner_address(), address, metrics, v1::INT8);
  const v1::Publication fp32 = MakePublication(1);
  int asked = 0;
  const auto calibrate = [&] {
    ++asked;
    return Calibration{{.span = 0, .values = std::vector<float>(640, 0.5F)}};
  };
  EXPECT_EQ(learner_->service.Publish(
                std::make_shared<const v1::Publication>(fp32), calibrate),
            absl::OkStatus());
  const v1::Publication expected =
      *EncodePublication(fp32, v1::INT8, calibrate());
  EXPECT_NE(expected.parameters(),
            EncodePublication(fp32, v1::INT8)->parameters());
  for (int i = 0; i < 2; ++i) {
    auto subscriber = Subscribe(address, v1::INT8);
    EXPECT_EQ(Await(*subscriber, 1).SerializeAsString(),
              expected.SerializeAsString());
  }
  EXPECT_EQ(asked, 2);  // Once by the service, once above.
  auto other = Subscribe(address, v1::FP32);
  absl::Status refused;
  EXPECT_TRUE(Until([&] {
    refused = other->WaitNewest(0, absl::Seconds(1)).status();
    return !refused.ok();
  }));
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("codec = FP32: allowed is INT8"));
}

TEST_F(RelayTest, AServicePublishesOnlyWhatItCanEncode) {
  v1::Publication publication = MakePublication(1);
  const auto refusal = [this](const v1::Publication& bad) {
    const absl::Status status =
        learner_->service.Publish(std::make_shared<const v1::Publication>(bad));
    return std::string(status.message());
  };
  publication.mutable_layout(0)->set_size(1);
  EXPECT_THAT(refusal(publication), HasSubstr("layout[0].channels = 8"));
  publication.mutable_layout(0)->set_channels(1);
  EXPECT_THAT(refusal(publication), HasSubstr("weights of 2080 bytes"));
  publication = MakePublication(1);
  publication.set_codec(v1::INT8);
  EXPECT_THAT(refusal(publication), HasSubstr("weights of 2080 bytes"));
  publication.set_codec(static_cast<v1::WeightCodec>(9));
  EXPECT_THAT(refusal(publication), HasSubstr("codec = 9"));
}

TEST_F(RelayTest, BadSubscriptionsEndInWords) {
  learner_->Publish(MakePublication(1));
  const auto end = [this](const std::string& message) {
    grpc::GenericStub stub(MakeChannel(relay_address()));
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    grpc::CompletionQueue queue;
    const auto next = [&queue] {
      void* tag = nullptr;
      bool ok = false;
      return queue.Next(&tag, &ok) && ok;
    };
    auto call =
        stub.PrepareCall(&context, "/qfleet.v1.Weights/Subscribe", &queue);
    call->StartCall(nullptr);
    EXPECT_TRUE(next());
    const grpc::Slice slice(message);
    call->Write(grpc::ByteBuffer(&slice, 1), nullptr);
    EXPECT_TRUE(next());
    grpc::Status status;
    call->Finish(&status, nullptr);
    EXPECT_TRUE(next());
    return status;
  };
  grpc::Status status = end("\xff\xff\xff");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("does not parse"));
  v1::SubscribeRequest hello;
  hello.set_network("n");
  hello.set_role("actor");
  hello.set_codec(static_cast<v1::WeightCodec>(7));
  status = end(hello.SerializeAsString());
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "codec = 7: allowed is FP32, BF16, INT8");
}

// A hundred at once, each with its own connection.
TEST_F(RelayTest, ManySubscribersComeAndGo) {
  learner_->Publish(MakePublication(1));
  for (uint64_t round = 0; round < 2; ++round) {
    std::vector<std::unique_ptr<WeightSubscriber>> actors;
    for (int i = 0; i < 50; ++i) {
      actors.push_back(
          Subscribe(relay_address(), static_cast<v1::WeightCodec>(i % 3)));
    }
    learner_->Publish(MakePublication(2 + round));
    for (auto& actor : actors) Await(*actor, 2 + round);
    EXPECT_TRUE(LearnerSees(
        [](const ActorsView& view) { return view.connected == 50; }));
    // The learner has one.
    EXPECT_EQ(learner_->service.stats().subscribers, 1u);
  }
  EXPECT_TRUE(
      LearnerSees([](const ActorsView& view) { return view.connected == 0; }));
}

}  // namespace
}  // namespace qfleet
