// A shard whose host is cut off: nothing arrives there, and nobody is told.

#include "tests/chaos/network.h"

#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/security.h"
#include "gtest/gtest.h"
#include "replay_client/remote_writer.h"
#include "tests/fault/experience.h"
#include "tests/fault/shard_process.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

// After some seconds the kernel has no route to it, so that a new connection
// fails at once: which is no answer of the shard's. (The actor waited for
// gRPC's keepalive, for 40 s.)
TEST(NetworkTest, AHostThatIsCutOffHoldsAnActorUpForSecondsOnly) {
  const TempDirectory folders[2];
  Network network;
  if (const absl::Status made = network.Make(folders[0].path()); !made.ok()) {
    GTEST_SKIP() << made;
  }
  ASSERT_TRUE(UseSecurity({}, /*insecure=*/true).ok());
  const v1::TableSpec spec = FaultTable(20000);
  ShardProcess here(folders[0].path(),
                    {.table = spec, .number = 0, .listen = "127.0.0.1:0"});
  ShardProcess there(folders[1].path(),
                     {.table = spec,
                      .number = 1,
                      .flags = {"--insecure"},
                      .listen = absl::StrCat(Network::kThere, ":7202"),
                      .prefix = network.There({})});
  here.Start();
  there.Start();
  WriterOptions options;
  options.table = spec.name();
  options.signature = spec.signature();
  options.shards = {here.address(), there.address()};
  options.batch_steps = 8;
  options.max_unacknowledged_steps = 64;
  const auto writer = MakeRemoteWriter(options);
  const std::string frame(spec.signature().step_columns(0).shape(0), 'f');
  uint64_t round = 0;
  const auto append = [&](int rounds) {
    for (int i = 0; i < rounds; ++i, ++round) {
      for (uint32_t stream : {0u, 1u}) {
        auto index =
            writer->AppendStep(stream, round % 100 == 0, {ColumnRow(frame)});
        ASSERT_TRUE(index.ok()) << index.status();
      }
    }
  };
  append(130);
  ASSERT_TRUE(writer->Flush().ok());
  ASSERT_EQ(writer->Stats().shards_connected, 2u);
  for (int cut = 0; cut < 2; ++cut) {
    SCOPED_TRACE(cut);
    network.Unplug();
    const absl::Time start = absl::Now();
    append(300);
    const absl::Duration held_up = absl::Now() - start;
    std::cout << "held up for " << held_up << std::endl;
    EXPECT_GE(held_up, options.silence_patience);
    EXPECT_LT(held_up, 3 * options.silence_patience);
    EXPECT_EQ(writer->Stats().shards_connected, 1u);
    network.PlugIn();
    EXPECT_TRUE(
        Eventually([&] { return writer->Stats().shards_connected == 2; },
                   absl::Seconds(90)));
    EXPECT_TRUE(writer->Flush().ok());
  }
  uint64_t stored = 0;
  for (const ShardProcess* shard : {&here, &there}) {
    stored += shard->Describe().stats().steps();
  }
  EXPECT_EQ(stored, 2 * round - writer->Stats().steps_dropped) << "each once";
}

}  // namespace
}  // namespace qfleet
