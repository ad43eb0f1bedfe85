#include "cli/status_table.h"

#include "gtest/gtest.h"

namespace qfleet {
namespace {

ProcessStatus Shard() {
  ProcessStatus process;
  process.address = "unix:a.sock";
  v1::DescribeResponse& shard = process.shard.emplace();
  shard.set_shard(1);
  shard.set_uptime_seconds(61.4);
  v1::TableInfo& table = *shard.add_tables();
  table.mutable_spec()->set_name("replay");
  table.mutable_spec()->set_max_items(25000);
  table.mutable_stats()->set_size(10660);
  table.mutable_stats()->set_bytes(3 << 19);
  table.mutable_stats()->set_steps(10752);
  table.mutable_stats()->set_inserted(10700);
  table.mutable_stats()->set_sampled(1166400);
  table.mutable_stats()->set_mass(812.25);
  table.set_waiting_writers(2);
  table.set_writers_wait_seconds(0.25);
  table.set_writers_wait_for("samples: 0 of 1 that 4 inserts call for");
  table.mutable_storage()->set_damaged_steps(3);
  table.mutable_storage()->set_recovery_dropped(1);
  table.mutable_storage()->set_damaged_items(4);
  table.mutable_storage()->set_verified_steps(1000);
  table.mutable_storage()->set_verify_total(25000);
  return process;
}

ProcessStatus Learner() {
  ProcessStatus process;
  process.address = "unix:l.sock";
  v1::RunReport& run = process.run.emplace();
  run.set_state("training");
  run.set_wall_seconds(12);
  run.set_env_steps(21504);
  run.set_env_steps_per_second(1532);
  run.set_updates(5200);
  run.set_updates_per_second(371);
  run.set_policy_version(208);
  run.set_samples_per_insert(15.6);
  run.set_actors(2);
  run.set_shards(2);
  run.mutable_evaluation()->set_mean_return(487.6);
  return process;
}

ProcessStatus Gone() {
  ProcessStatus process;
  process.address = "h:1";
  process.error = absl::UnavailableError("connection refused");
  return process;
}

TEST(StatusTable, Golden) {
  EXPECT_EQ(
      StatusTable({Shard(), Gone(), Learner()}),
      "learner      state     time [s]  env steps  env steps [1/s]  updates  "
      "updates [1/s]  policy  weight age [s]  loss  mean Q  samples/insert  "
      "actors  shards  evaluation [return]\n"
      "unix:l.sock  training      12.0     21,504            1,532    5,200  "
      "          371     208            0.00     0       0           15.60  "
      "     2       2                487.6\n"
      "\n"
      "replay       shard  table    items  capacity [items]  used [MiB]   "
      "steps  inserted    sampled   mass  writers waiting  longest [s]  "
      "samplers waiting  longest [s]  up [s]\n"
      "unix:a.sock      1  replay  10,660            25,000         1.5  "
      "10,752    10,700  1,166,400  812.2                2          0.2  "
      "               0          0.0      61\n"
      "\n"
      "no answer  error\n"
      "h:1        connection refused\n"
      "\n"
      "unix:a.sock replay: writers wait for samples: 0 of 1 that 4 inserts "
      "call for\n"
      "unix:a.sock replay: damaged files: 3 steps and 5 items were dropped\n"
      "unix:a.sock replay: verified 1,000 of 25,000 recovered steps so far\n");
}

TEST(StatusTable, OnlyWhatIsThere) {
  EXPECT_EQ(StatusTable({Gone()}),
            "no answer  error\nh:1        connection refused\n");
}

TEST(StatusJson, HasPlainNumbers) {
  nlohmann::ordered_json list = StatusJson({Shard(), Gone(), Learner()});
  ASSERT_EQ(list.size(), 3u);
  EXPECT_EQ(list[0]["address"], "unix:a.sock");
  EXPECT_EQ(list[0]["replay"]["tables"][0]["stats"]["sampled"], 1166400);
  EXPECT_EQ(list[0]["replay"]["tables"][0]["spec"]["name"], "replay");
  EXPECT_EQ(list[1]["error"], "connection refused");
  EXPECT_EQ(list[2]["learner"]["env_steps"], 21504);
  EXPECT_EQ(list[2]["learner"]["evaluation"]["mean_return"], 487.6);
  EXPECT_EQ(list[2]["learner"]["loss"], 0.0);
}

}  // namespace
}  // namespace qfleet
