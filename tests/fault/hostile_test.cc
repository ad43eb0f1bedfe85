// Clients that are broken or mean harm, against one shard that serves a
// well-behaved one beside them.

#include <algorithm>
#include <atomic>
#include <iostream>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/grpc.h"
#include "google/protobuf/stubs/common.h"
#include "grpcpp/support/byte_buffer.h"
#include "gtest/gtest.h"
#include "tests/fault/experience.h"
#include "tests/fault/shard_process.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

// ------------------------------------------------------------- mutations ---

using Batch = v1::AppendBatch;

// One way to break what was a good batch.
void Break(Batch& batch, Random& random) {
  const int steps = batch.step_stream_size();
  const int items = batch.item_stream_size();
  const auto any = [&random](int count) {
    return static_cast<int>(random.Below(static_cast<uint64_t>(count)));
  };
  const uint64_t huge = random.Bits() >> random.Below(64);
  static constexpr float kBadPriorities[] = {
      std::numeric_limits<float>::quiet_NaN(),
      std::numeric_limits<float>::infinity(),
      -std::numeric_limits<float>::infinity(), -1.0f, -1e-30f};
  switch (random.Below(20)) {
    case 0:
      return batch.set_sequence(huge);
    case 1:
      return batch.set_sequence(0);
    case 2:
      return batch.add_step_stream(static_cast<uint32_t>(huge));
    case 3:
      return batch.mutable_step_index()->RemoveLast();
    case 4:
      return batch.add_step_index(huge);
    case 5:
      return batch.add_step_starts_episode(true);
    case 6:
      return batch.set_step_index(any(steps), huge);
    case 7:
      return batch.set_step_stream(any(steps), static_cast<uint32_t>(huge));
    case 8:
      return batch.clear_step_columns();
    case 9:
      return batch.mutable_step_columns(0)->clear_data();
    case 10:
      batch.mutable_step_columns(0)->mutable_data()->push_back('x');
      return;
    case 11:
      batch.add_step_columns()->set_data("more");
      return;
    case 12:
      return batch.mutable_step_columns(0)->mutable_data()->resize(huge %
                                                                   (1 << 20));
    case 13:
      return batch.mutable_step_starts_episode()->Clear();
    default:
      break;
  }
  if (items == 0) return batch.add_item_priority(1);
  switch (random.Below(9)) {
    case 0:
      return batch.set_item_priority(any(items), kBadPriorities[any(5)]);
    case 1:
      return batch.set_item_first(any(items), huge);
    case 2:
      return batch.set_item_last(any(items), huge);
    case 3:
      return batch.set_item_stream(any(items), static_cast<uint32_t>(huge));
    case 4:
      return batch.add_item_priority(kBadPriorities[any(5)]);
    case 5:
      return batch.mutable_item_first()->RemoveLast();
    case 6:
      return batch.clear_item_columns();
    case 7:
      return batch.mutable_item_columns(0)->mutable_data()->resize(huge % 4096);
    default:
      std::swap(*batch.mutable_item_first(), *batch.mutable_item_last());
      return batch.add_item_last(huge);
  }
}

// Bytes that were a message.
std::string BreakBytes(std::string bytes, Random& random) {
  for (uint64_t times = 1 + random.Below(4); times > 0; --times) {
    const size_t at = bytes.empty() ? 0 : random.Below(bytes.size());
    switch (random.Below(7)) {
      case 0:
        if (!bytes.empty())
          bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.Below(8)));
        break;
      case 1:
        bytes.resize(at);
        break;
      case 2:
        bytes.erase(at, 1 + random.Below(8));
        break;
      case 3:
        bytes.insert(at, bytes.substr(at, random.Below(64)));
        break;
      // A length, a tag or a value of 2^63 or so.
      case 4:
        bytes.insert(at, "\xff\xff\xff\xff\xff\xff\xff\xff\x7f");
        break;
      case 5:
        bytes.insert(at, 1, static_cast<char>(random.Below(256)));
        break;
      default:
        for (size_t j = at; j < std::min(bytes.size(), at + 8); ++j) {
          bytes[j] = static_cast<char>(random.Below(256));
        }
    }
  }
  return bytes;
}

std::string Garbage(Random& random) {
  std::string bytes(random.Below(2000), '\0');
  for (char& byte : bytes) byte = static_cast<char>(random.Below(256));
  return bytes;
}

// ------------------------------------------------------------------ calls ---

// A method of the service, by bytes.
struct Method {
  const char* name;
  bool stream;
};
constexpr Method kAppend = {"/qfleet.v1.Replay/Append", true};
constexpr Method kSample = {"/qfleet.v1.Replay/Sample", true};
constexpr Method kUpdate = {"/qfleet.v1.Replay/UpdatePriorities", false};
constexpr Method kLimit = {"/qfleet.v1.Replay/SetRateLimiter", false};

grpc::ByteBuffer ToBuffer(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

// Sends the messages and takes what comes until the call's end.
grpc::Status Call(const std::shared_ptr<grpc::Channel>& channel,
                  const Method& method,
                  const std::vector<std::string>& messages) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(30)));
  // To the server a unary call is a stream of one message each way.
  const grpc::internal::RpcMethod rpc(
      method.name, grpc::internal::RpcMethod::BIDI_STREAMING, channel);
  std::unique_ptr<grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>>
      call(grpc::internal::ClientReaderWriterFactory<
           grpc::ByteBuffer, grpc::ByteBuffer>::Create(channel.get(), rpc,
                                                       &context));
  for (size_t m = 0; m < messages.size(); ++m) {
    grpc::WriteOptions options;
    if (m + 1 == messages.size())
      options.set_last_message();
    else
      options.set_buffer_hint();
    if (!call->Write(ToBuffer(messages[m]), options)) break;
  }
  grpc::ByteBuffer answer;
  while (call->Read(&answer)) {
  }
  return call->Finish();
}

class HostileTest : public testing::Test {
 protected:
  HostileTest() {
#if GOOGLE_PROTOBUF_VERSION < 4022000
    // It would write a line for each string that is not UTF-8.
    google::protobuf::SetLogHandler(nullptr);
#endif
    shard_.Start();
  }

  // Its own stream, its own writer_id, which the hostile ones do not know.
  void Behave(std::atomic<uint64_t>& stored, const std::atomic<bool>& stop) {
    Experience experience(1, seed_, record_);
    std::unique_ptr<v1::Replay::Stub> stub = shard_.NewStub();
    grpc::ClientContext context;
    auto stream = stub->Append(&context);
    v1::AppendResponse response;
    ASSERT_TRUE(stream->Write(OpenOf(record_.spec(), kWriter)));
    ASSERT_TRUE(stream->Read(&response));
    uint64_t sequence = 0;
    while (!stop || sequence < 200) {
      v1::AppendRequest request;
      *request.mutable_batch() = experience.NextBatch(++sequence);
      ASSERT_TRUE(stream->Write(request)) << stream->Finish().error_message();
      ASSERT_TRUE(stream->Read(&response)) << stream->Finish().error_message();
      ASSERT_EQ(response.sequence(), sequence);
      ASSERT_EQ(static_cast<int>(response.items_stored()),
                request.batch().item_stream_size());
      stored = sequence;
      if (sequence >= 1500) absl::SleepFor(absl::Milliseconds(20));
    }
    EXPECT_TRUE(stream->WritesDone());
    EXPECT_TRUE(stream->Finish().ok());
  }

  static constexpr uint64_t kWriter = 0x123456789abcdef;
  const uint64_t seed_ = TestSeed();
  const TempDirectory folder_;
  // Unlimited, and large enough that nothing goes.
  Record record_{FaultTable(400000, 24)};
  ShardProcess shard_{
      folder_.path(),
      {.table = record_.spec(), .data_dir = folder_.path() + "/data"}};
};

// One message, or a few that belong together, and what must become of it.
struct Attack {
  Method method = kAppend;
  std::vector<std::string> messages;
  // It is wrong for certain.
  bool refused = false;
};

class Attacker {
 public:
  Attacker(uint64_t seed, const v1::TableSpec& spec)
      : random_(seed),
        spec_(spec),
        // What it writes is judged by nobody, as it may be anything.
        record_(spec),
        experience_(99, seed, record_) {}

  Attack Next() {
    switch (random_.Below(8)) {
      case 0:
        return BrokenBatch();
      case 1:
        return BytesOf(kAppend, {Open(), GoodBatch()});
      case 2:
        return BytesOf(kAppend, {Open()});
      case 3:
        return BytesOf(kSample,
                       {SampleOpenOf(spec_).SerializeAsString(), Draw()});
      case 4:
        return BrokenDraw();
      case 5:
        return BrokenUpdate();
      case 6:
        return BytesOf(kUpdate, {Update().SerializeAsString()});
      default:
        return OfNoMeaning();
    }
  }

 private:
  // A writer that never was, so that each batch is the first of its writer.
  std::string Open() {
    return OpenOf(spec_, random_.Bits() | 1).SerializeAsString();
  }
  std::string GoodBatch() {
    v1::AppendRequest request;
    *request.mutable_batch() = experience_.NextBatch(1);
    return request.SerializeAsString();
  }
  std::string Draw() {
    return DrawOf(static_cast<uint32_t>(random_.Below(64)), 0)
        .SerializeAsString();
  }
  v1::UpdatePrioritiesRequest Update() {
    v1::UpdatePrioritiesRequest request;
    request.set_table(spec_.name());
    for (uint64_t i = random_.Below(20); i > 0; --i) {
      // Keys that hardly ever exist: generations are random.
      request.add_slot(static_cast<uint32_t>(random_.Below(1 << 20)));
      request.add_generation(static_cast<uint32_t>(random_.Bits()));
      request.add_priority(1);
    }
    return request;
  }

  Attack BrokenBatch() {
    v1::AppendRequest request;
    *request.mutable_batch() = experience_.NextBatch(1);
    Break(*request.mutable_batch(), random_);
    return {kAppend, {Open(), request.SerializeAsString()}};
  }

  Attack BytesOf(const Method& method, std::vector<std::string> messages) {
    messages.back() = random_.Below(4) == 0
                          ? Garbage(random_)
                          : BreakBytes(messages.back(), random_);
    return {method, std::move(messages)};
  }

  Attack BrokenDraw() {
    v1::SampleRequest request = DrawOf(1, 0);
    const uint64_t huge = random_.Bits() >> random_.Below(64);
    switch (random_.Below(4)) {
      case 0:
        request.mutable_draw()->set_count(
            static_cast<uint32_t>(65537 + huge % (1 << 31)));
        break;
      case 1:
        request.mutable_draw()->set_timeout_ms(
            static_cast<uint32_t>(60001 + huge % (1 << 31)));
        break;
      case 2:
        request.clear_draw();
        break;
      default:
        request = SampleOpenOf(spec_);
    }
    return {
        kSample,
        {SampleOpenOf(spec_).SerializeAsString(), request.SerializeAsString()},
        true};
  }

  Attack BrokenUpdate() {
    v1::UpdatePrioritiesRequest request = Update();
    request.add_slot(1);
    request.add_generation(1);
    request.add_priority(1);
    switch (random_.Below(5)) {
      case 0:
        request.add_priority(1);
        break;
      case 1:
        request.mutable_slot()->RemoveLast();
        break;
      case 2:
        request.set_priority(0, std::numeric_limits<float>::quiet_NaN());
        break;
      case 3:
        request.set_priority(0, -1);
        break;
      default:
        request.set_table("");
    }
    return {kUpdate, {request.SerializeAsString()}, true};
  }

  Attack OfNoMeaning() {
    v1::AppendRequest open = OpenOf(spec_, 7);
    v1::SetRateLimiterRequest limit;
    limit.set_table(spec_.name());
    switch (random_.Below(8)) {
      case 0:
        return {kAppend, {GoodBatch()}, true};
      case 1:
        return {kAppend, {Open(), Open()}, true};
      case 2:
        return {kAppend, {""}, true};
      case 3:
        open.mutable_open()->set_writer_id(0);
        break;
      case 4:
        open.mutable_open()->set_table(absl::StrCat("../", random_.Bits()));
        break;
      case 5:
        open.mutable_open()
            ->mutable_signature()
            ->mutable_step_columns(0)
            ->set_shape(0, -1);
        break;
      case 6:
        open.mutable_open()->mutable_signature()->mutable_views(0)->set_stack(
            1u << 31);
        break;
      default:
        limit.mutable_rate_limiter()->set_tolerance(
            std::numeric_limits<double>::quiet_NaN());
        return {kLimit, {limit.SerializeAsString()}, true};
    }
    return {kAppend, {open.SerializeAsString()}, true};
  }

  Random random_;
  const v1::TableSpec spec_;
  Record record_;
  Experience experience_;
};

bool Parses(const Attack& attack) {
  const std::string& last = attack.messages.back();
  if (attack.method.name == kAppend.name) {
    return v1::AppendRequest().ParseFromString(last);
  }
  if (attack.method.name == kSample.name) {
    return v1::SampleRequest().ParseFromString(last);
  }
  return v1::UpdatePrioritiesRequest().ParseFromString(last);
}

// Whether that is what the attacker must be told.
bool IsRight(const Attack& attack, const grpc::Status& status) {
  switch (status.error_code()) {
    case grpc::OK:
      return !attack.refused && Parses(attack);
    case grpc::INVALID_ARGUMENT:
    case grpc::NOT_FOUND:
    case grpc::FAILED_PRECONDITION:
    case grpc::OUT_OF_RANGE:
      return !status.error_message().empty();
    case grpc::INTERNAL:  // gRPC parses the message of a unary call itself.
      return !attack.method.stream && !Parses(attack);
    default:
      return false;
  }
}

TEST_F(HostileTest, HostileMessages) {
  constexpr int kThreads = 4;
  constexpr int kMessages = 100000;
  std::atomic<uint64_t> stored{0};
  std::atomic<bool> stop{false};
  std::thread behaved([&] { Behave(stored, stop); });
  ASSERT_TRUE(Eventually([&] { return stored > 0; }));
  std::atomic<int> next{0};
  std::atomic<int> wrong{0};
  std::map<std::string, int> outcomes[kThreads];
  std::vector<std::thread> attackers;
  for (int t = 0; t < kThreads; ++t) {
    attackers.emplace_back([&, t] {
      Attacker attacker(MixSeed(seed_, 100 + t), record_.spec());
      std::shared_ptr<grpc::Channel> channel = MakeChannel(shard_.address());
      while (next.fetch_add(1) < kMessages && wrong < 10) {
        const Attack attack = attacker.Next();
        const grpc::Status status =
            Call(channel, attack.method, attack.messages);
        ++outcomes[t][absl::StrCat(attack.method.name, ", code ",
                                   status.error_code())];
        if (IsRight(attack, status)) continue;
        ++wrong;
        ADD_FAILURE() << attack.method.name << ": " << status.error_code()
                      << " \"" << status.error_message() << "\" to "
                      << testing::PrintToString(
                             attack.messages.back().substr(0, 200));
      }
    });
  }
  for (std::thread& attacker : attackers) attacker.join();
  stop = true;
  behaved.join();
  std::map<std::string, int> all;
  for (const auto& some : outcomes) {
    for (const auto& [outcome, count] : some) all[outcome] += count;
  }
  for (const auto& [outcome, count] : all) {
    std::cout << outcome << ": " << count << std::endl;
  }
  std::cout << "RSS " << shard_.ProcStatus("VmRSS") / 1024 << " MB, "
            << shard_.ProcStatus("Threads") << " threads" << std::endl;
  EXPECT_LT(shard_.ProcStatus("Threads"), 100u);
  EXPECT_EQ(shard_.Stop(), 0);

  // Some of theirs is in the table too, as some of it was right. What the good
  // one wrote is all there, in order, as it was written.
  auto found = ReadTableFiles(shard_.table_dir(), record_, {kWriter},
                              /*with_others=*/true);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->last_sequence[kWriter], stored);
  EXPECT_EQ(found->verified.damaged_steps, 0u);
  const std::map<uint64_t, SentItem> sent = record_.All();
  ASSERT_EQ(found->items.size(), sent.size());
  auto expected = sent.begin();
  for (const FoundItem& item : found->items) {
    EXPECT_EQ(item.uid, expected->first);
    EXPECT_EQ(item.priority, expected->second.priority);
    ++expected;
  }
}

}  // namespace
}  // namespace qfleet
