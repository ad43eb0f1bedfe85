// A real cluster under faults on a seeded schedule: processes are killed,
// stopped and cut off while it trains. Each fault shows in a metric, each is
// got over, no item that was acknowledged is lost or there twice, and in the
// end the target is reached and nothing is left behind.
//
// QFLEET_CHAOS_ROUNDS: how often each kind of fault comes (1);
// QFLEET_TEST_SEED: in what order, to whom and when.

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "common/random.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "replay_client/remote_writer.h"
#include "tests/chaos/cluster.h"
#include "tests/chaos/network.h"
#include "tests/fault/experience.h"
#include "tests/fault/shard_process.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr double kTarget = 475;

int Rounds() {
  int rounds = 1;
  const char* text = std::getenv("QFLEET_CHAOS_ROUNDS");
  if (text != nullptr && !absl::SimpleAtoi(text, &rounds)) {
    ADD_FAILURE() << "QFLEET_CHAOS_ROUNDS = " << text
                  << ": allowed is a number";
  }
  return rounds;
}

// The config of configs/cartpole.txtpb, without an end, and with a table beside
// the run's for the recorders.
v1::Config ChaosConfig(const v1::TableSpec& recorded) {
  std::ifstream file(QFLEET_SOURCE_DIR "/configs/cartpole.txtpb");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  v1::Config config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &config));
  config.clear_stop();
  *config.mutable_replay()->add_more_tables() = recorded;
  config.mutable_learner()->set_checkpoint_period(500);
  config.mutable_learner()->set_report_seconds(0.1);
  return config;
}

v1::TableSpec RecordedTable() {
  v1::TableSpec spec = FaultTable(/*max_items=*/1000000);
  spec.set_name("recorded");
  return spec;
}

// Writes items to one shard all the while and keeps account of them.
class Recorder {
 public:
  Recorder(uint64_t number, uint64_t seed, const std::string& shard,
           Record& record)
      : experience_(number, seed, record) {
    WriterOptions options;
    options.table = record.spec().name();
    options.signature = record.spec().signature();
    options.shards = {shard};
    options.batch_steps = 8;
    writer_ = MakeRemoteWriter(options);
    thread_ = std::thread([this] { Run(); });
  }
  ~Recorder() {
    writer_->Stop();
    if (thread_.joinable()) Finish();
  }

  // What was written is acknowledged.
  void Finish() {
    stop_.Notify();
    thread_.join();
  }

  WriterStats Stats() const { return writer_->Stats(); }

 private:
  void Run() {
    // About 1,000 steps a second: the schedule lasts, the table must not be
    // full.
    while (!stop_.WaitForNotificationWithTimeout(absl::Milliseconds(4))) {
      for (int i = 0; i < 4; ++i) Append();
    }
    const absl::Status status = writer_->Flush();
    EXPECT_TRUE(status.ok()) << status;
  }

  void Append() {
    std::vector<SentItem> items;
    const SentStep step = experience_.NextStep(/*sequence=*/0, items);
    const auto index = writer_->AppendStep(step.stream, step.starts_episode,
                                           {ColumnRow(step.frame)});
    ASSERT_TRUE(index.ok()) << index.status();
    for (const SentItem& item : items) {
      const ColumnRow uid(reinterpret_cast<const char*>(&item.uid), 8);
      const absl::Status status = writer_->AppendItem(
          item.stream, item.first, item.last, {uid}, item.priority);
      ASSERT_TRUE(status.ok()) << status;
    }
  }

  Experience experience_;
  std::unique_ptr<RemoteWriter> writer_;
  absl::Notification stop_;
  std::thread thread_;
};

class ChaosTest : public testing::Test {
 protected:
  void SetUp() override {
    const absl::Status made = network_.Make(folder_.path());
    if (absl::IsPermissionDenied(made)) {
      GTEST_SKIP() << "skipped: " << made.message();
    }
    ASSERT_TRUE(made.ok()) << made;
    cluster_ = std::make_unique<Cluster>(folder_.path(),
                                         ChaosConfig(record_.spec()), network_);
  }

  struct Fault {
    std::string what;
    std::function<void()> inflict;
    // Whether a metric shows it.
    std::function<bool()> shows;
    std::function<void()> heal;
  };

  double Learner(const std::string& metric) {
    return cluster_->Metric("learner", metric);
  }
  std::string AnyShard() { return absl::StrCat("shard-", random_.Below(2)); }
  std::string AnyActor() { return absl::StrCat("actor-", random_.Below(2)); }

  // All are there, and the run makes steps and updates.
  bool Thrives() {
    const double updates = Learner("qfleet_learner_updates_total");
    const double steps = Learner("qfleet_learner_env_steps_total");
    return Eventually(
        [&] {
          return Learner("qfleet_sampler_shards_connected") == 2 &&
                 Learner("qfleet_learner_actors_connected") == 2 &&
                 cluster_->Metric("actor-0", "qfleet_actor_shards_connected") ==
                     2 &&
                 cluster_->Metric("actor-1", "qfleet_actor_shards_connected") ==
                     2 &&
                 Learner("qfleet_learner_updates_total") > updates + 100 &&
                 Learner("qfleet_learner_env_steps_total") > steps + 200;
        },
        kPatience);
  }

  Fault KillShard() {
    const std::string shard = AnyShard();
    return {"kill " + shard, [=, this] { cluster_->Kill(shard); },
            [this] { return Learner("qfleet_sampler_shards_connected") == 1; },
            [=, this] {
              cluster_->Start(shard);
              EXPECT_GT(
                  cluster_->Metric(shard, "qfleet_replay_recovered_items"), 0);
            }};
  }
  Fault StopShard() {
    const std::string shard = AnyShard();
    return {"stop " + shard, [=, this] { cluster_->Freeze(shard); },
            [this] { return Learner("qfleet_sampler_shards_connected") == 1; },
            [=, this] { cluster_->Thaw(shard); }};
  }
  Fault CutShard() {
    return {"cut shard-1 off", [this] { network_.Unplug(); },
            [this] { return Learner("qfleet_sampler_shards_connected") == 1; },
            [this] { network_.PlugIn(); }};
  }
  Fault KillActor() {
    const std::string actor = AnyActor();
    return {"kill " + actor, [=, this] { cluster_->Kill(actor); },
            [this] { return Learner("qfleet_learner_actors_connected") == 1; },
            [=, this] { cluster_->Start(actor); }};
  }
  Fault StopActor() {
    const std::string actor = AnyActor();
    return {"stop " + actor, [=, this] { cluster_->Freeze(actor); },
            [this] {
              return Learner("qfleet_learner_actor_policy_age_seconds") > 2;
            },
            [=, this] { cluster_->Thaw(actor); }};
  }
  Fault KillLearner() {
    return {"kill the learner", [this] { cluster_->Kill("learner"); },
            [this] {
              return cluster_->Metric("actor-0",
                                      "qfleet_actor_learner_connected") == 0;
            },
            [this] { cluster_->Start("learner", {"--resume"}); }};
  }
  Fault StopLearner() {
    return {"stop the learner", [this] { cluster_->Freeze("learner"); },
            [this] {
              return cluster_->Metric("actor-1",
                                      "qfleet_actor_policy_age_seconds") > 2;
            },
            [this] { cluster_->Thaw("learner"); }};
  }

  std::vector<Fault> Schedule() {
    std::vector<Fault> faults;
    for (int round = 0; round < Rounds(); ++round) {
      std::vector<Fault> all = {KillShard(),  StopShard(), CutShard(),
                                KillActor(),  StopActor(), KillLearner(),
                                StopLearner()};
      while (!all.empty()) {
        const size_t next = random_.Below(all.size());
        faults.push_back(std::move(all[next]));
        all.erase(all.begin() + static_cast<ptrdiff_t>(next));
      }
    }
    return faults;
  }

  void Endure(const Fault& fault) {
    SCOPED_TRACE(fault.what);
    ASSERT_TRUE(Thrives()) << "before";
    ASSERT_TRUE(Eventually([&] { return !fault.shows(); }, kPatience))
        << "shows before it is there";
    const absl::Time begin = absl::Now();
    fault.inflict();
    EXPECT_TRUE(Eventually(fault.shows, kPatience)) << "no metric shows it";
    const absl::Time shown = absl::Now();
    // It may last longer than it takes to be seen.
    absl::SleepFor(absl::Milliseconds(random_.Below(2000)));
    fault.heal();
    const absl::Time healed = absl::Now();
    ASSERT_TRUE(Thrives()) << "afterwards";
    std::cout << fault.what << ": shown after " << shown - begin
              << ", got over " << absl::Now() - healed << " after its end"
              << std::endl;
  }

  // What the recorder of this shard wrote is in its files, once, in order.
  void CheckRecorded(int shard) {
    const uint64_t writer = static_cast<uint64_t>(shard) + 1;
    auto found = ReadTableFiles(
        cluster_->data_dir(shard) + "/" + record_.spec().name(), record_, {});
    ASSERT_TRUE(found.ok()) << found.status();
    std::vector<uint64_t> sent, there;
    for (const auto& [uid, item] : record_.All()) {
      if (item.writer == writer) sent.push_back(uid);
    }
    for (const FoundItem& item : found->items) there.push_back(item.uid);
    EXPECT_GT(sent.size(), 1000u);
    EXPECT_EQ(there, sent);
    EXPECT_EQ(found->recovery.dropped, 0u);
    EXPECT_EQ(found->verified.damaged_steps, 0u);
  }

  const uint64_t seed_ = TestSeed();
  Random random_{seed_};
  const TempDirectory folder_;
  Record record_{RecordedTable()};
  Network network_;
  std::unique_ptr<Cluster> cluster_;
};

TEST_F(ChaosTest, ARunReachesItsTargetThroughFaultsAndLosesNothing) {
  for (const char* name :
       {"shard-0", "shard-1", "learner", "evaluator", "actor-0", "actor-1"}) {
    cluster_->Start(name);
    ASSERT_FALSE(HasFailure());
  }
  std::vector<std::unique_ptr<Recorder>> recorders;
  for (int s = 0; s < 2; ++s) {
    recorders.push_back(std::make_unique<Recorder>(
        s + 1, MixSeed(seed_, 1), cluster_->shard_address(s), record_));
  }
  for (const Fault& fault : Schedule()) {
    Endure(fault);
    if (HasFatalFailure()) return;
  }
  // It had no end to reach; the next life has one.
  EXPECT_EQ(cluster_->Stop("learner"), 0) << cluster_->Output("learner");
  cluster_->Start(
      "learner",
      {"--resume", absl::StrCat("--set=stop.mean_return=", kTarget)});
  EXPECT_EQ(cluster_->Await("learner", 150), 0) << cluster_->Output("learner");
  EXPECT_THAT(cluster_->Output("learner"), testing::HasSubstr("reached: mean"));

  for (auto& recorder : recorders) {
    recorder->Finish();
    const WriterStats stats = recorder->Stats();
    EXPECT_EQ(stats.items_skipped, 0u);
    EXPECT_EQ(stats.items_dropped, 0u);
    EXPECT_EQ(stats.unacknowledged_bytes, 0u);
  }
  for (const char* name :
       {"actor-0", "actor-1", "evaluator", "shard-0", "shard-1"}) {
    EXPECT_EQ(cluster_->Stop(name), 0) << cluster_->Output(name);
  }
  for (int s = 0; s < 2; ++s) {
    SCOPED_TRACE(absl::StrCat("shard ", s));
    CheckRecorded(s);
    std::string output;
    EXPECT_EQ(
        RunToEnd({QFLEET_BIN_DIR "/qfleet", "inspect", cluster_->data_dir(s)},
                 folder_.path() + "/inspect", 60, &output),
        0)
        << output;
  }
  EXPECT_THAT(FindProcesses("--config=" + folder_.path()), testing::IsEmpty())
      << "processes were left behind";
  std::cout << record_.All().size() << " recorded items, none lost, none twice"
            << std::endl;
}

}  // namespace
}  // namespace qfleet
