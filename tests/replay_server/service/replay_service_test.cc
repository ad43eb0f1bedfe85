#include "replay_server/service/replay_service.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "gmock/gmock.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/support/byte_buffer.h"
#include "gtest/gtest.h"
#include "qfleet/v1/replay.grpc.pb.h"
#include "replay_client/persistent_stream.h"
#include "tests/replay_server/service/test_shard.h"

namespace qfleet {
namespace {

using ::testing::HasSubstr;

// A client's end of one Append call.
class AppendCall {
 public:
  explicit AppendCall(v1::Replay::Stub& stub)
      : stream_(stub.Append(&context_)) {}

  // The last sequence that the shard has, or -1.
  int64_t Open(uint64_t writer_id, const v1::TableSpec& spec = TestTable()) {
    v1::AppendRequest request;
    request.mutable_open()->set_table(spec.name());
    request.mutable_open()->set_writer_id(writer_id);
    *request.mutable_open()->mutable_signature() = spec.signature();
    return Send(request) ? Acknowledged() : -1;
  }
  bool Send(const v1::AppendBatch& batch) {
    v1::AppendRequest request;
    *request.mutable_batch() = batch;
    return Send(request);
  }
  bool Send(const v1::AppendRequest& request) {
    return stream_->Write(request);
  }
  int64_t Acknowledged() {
    v1::AppendResponse response;
    return stream_->Read(&response) ? static_cast<int64_t>(response.sequence())
                                    : -1;
  }
  grpc::Status Finish() { return stream_->Finish(); }
  void Break() { context_.TryCancel(); }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<
      grpc::ClientReaderWriter<v1::AppendRequest, v1::AppendResponse>>
      stream_;
};

class ReplayServiceTest : public ::testing::Test {
 protected:
  void Start(const v1::TableSpec& spec) {
    server_ = std::make_unique<TestShard>(spec);
    server_->Start();
    channel_ = MakeChannel(server_->address());
    stub_ = v1::Replay::NewStub(channel_);
    // Calls of one connection are bounded (cluster.limits).
    second_stub_ = v1::Replay::NewStub(MakeChannel(server_->address()));
  }
  void StoreOneItem(float priority) {
    AppendCall append(*stub_);
    ASSERT_EQ(append.Open(5), 0);
    ASSERT_TRUE(append.Send(OneItemBatch(1, priority)));
    ASSERT_EQ(append.Acknowledged(), 1);
    append.Break();
    append.Finish().error_code();
  }
  static v1::SampleRequest OpenSample() {
    v1::SampleRequest request;
    request.mutable_open()->set_table("experience");
    *request.mutable_open()->mutable_signature() = TestTable().signature();
    return request;
  }
  bool Lives() {
    grpc::ClientContext context;
    v1::DescribeResponse response;
    grpc::Status status = stub_->Describe(&context, {}, &response);
    return status.ok() && response.tables_size() == 1;
  }
  // A connection to the server's socket, without gRPC.
  int RawConnection() {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    const std::string path(absl::StripPrefix(server_->address(), "unix:"));
    std::memcpy(address.sun_path, path.data(), path.size());
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    EXPECT_EQ(
        connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    return fd;
  }

  std::unique_ptr<TestShard> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Replay::Stub> stub_;
  std::unique_ptr<v1::Replay::Stub> second_stub_;  // Of another connection.
};

TEST_F(ReplayServiceTest, AcknowledgesAndRemembers) {
  Start(TestTable());
  AppendCall first(*stub_);
  ASSERT_EQ(first.Open(5), 0);
  ASSERT_TRUE(first.Send(OneItemBatch(1)));
  EXPECT_EQ(first.Acknowledged(), 1);
  ASSERT_TRUE(first.Send(OneItemBatch(2)));
  EXPECT_EQ(first.Acknowledged(), 2);
  AppendCall second(*stub_);
  EXPECT_EQ(second.Open(5), 2);
  ASSERT_TRUE(second.Send(OneItemBatch(2)));
  EXPECT_EQ(second.Acknowledged(), 2);
  EXPECT_EQ(server_->Stats().inserted(), 2u);
}

TEST(AppendThreadsTest, AllTakeCallsOfAllConnections) {
  TestShard shard(TestTable(), 0, 3);
  shard.Start();
  // gRPC gives each connection one of the threads.
  constexpr int kWriters = 24;
  std::vector<std::unique_ptr<v1::Replay::Stub>> stubs;
  std::vector<std::unique_ptr<AppendCall>> calls;
  for (int i = 0; i < kWriters; ++i) {
    stubs.push_back(v1::Replay::NewStub(MakeChannel(shard.address())));
    calls.push_back(std::make_unique<AppendCall>(*stubs.back()));
    ASSERT_EQ(calls.back()->Open(i + 1), 0);
  }
  for (uint64_t sequence : {1, 2, 3}) {
    for (auto& call : calls) ASSERT_TRUE(call->Send(OneItemBatch(sequence)));
    for (auto& call : calls) {
      ASSERT_EQ(call->Acknowledged(), static_cast<int64_t>(sequence));
    }
  }
  EXPECT_EQ(shard.Stats().inserted(), 3u * kWriters);
}

TEST_F(ReplayServiceTest, SampleStreamsAreBounded) {
  Start(TestTable());
  const v1::SampleRequest open = OpenSample();
  struct Call {
    grpc::ClientContext context;
    std::unique_ptr<
        grpc::ClientReaderWriter<v1::SampleRequest, v1::SampleResponse>>
        stream;
  };
  std::vector<std::unique_ptr<Call>> calls;
  const auto start = [&] {
    auto call = std::make_unique<Call>();
    call->stream =
        (calls.size() % 2 == 0 ? stub_ : second_stub_)->Sample(&call->context);
    call->stream->Write(open);
    return call;
  };
  v1::SampleResponse response;
  for (int i = 0; i < ReplayService::kMaxSampleStreams; ++i) {
    calls.push_back(start());
    ASSERT_TRUE(calls.back()->stream->Read(&response)) << i;
  }
  auto refused = start();
  EXPECT_FALSE(refused->stream->Read(&response));
  const grpc::Status status = refused->stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("allowed are 256 at a time"));
  calls.back()->stream->WritesDone();
  EXPECT_TRUE(calls.back()->stream->Finish().ok());
  EXPECT_TRUE(Eventually([&] {
    auto again = start();
    const bool served = again->stream->Read(&response);
    again->context.TryCancel();
    again->stream->Finish().error_code();
    return served;
  }));
  for (auto& call : calls) call->context.TryCancel();
}

TEST_F(ReplayServiceTest, OtherSignatureIsRefusedInWords) {
  Start(TestTable());
  v1::TableSpec other = TestTable();
  other.mutable_signature()->mutable_item_columns(0)->set_dtype(v1::INT32);
  AppendCall call(*stub_);
  EXPECT_EQ(call.Open(5, other), -1);
  grpc::Status status = call.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("the writer"));
  EXPECT_THAT(status.error_message(), HasSubstr("action"));
  EXPECT_THAT(status.error_message(), HasSubstr("int32"));
}

TEST_F(ReplayServiceTest, SamplerWithOtherSignatureIsRefusedInWords) {
  Start(TestTable());
  grpc::ClientContext context;
  auto stream = stub_->Sample(&context);
  v1::SampleRequest request;
  request.mutable_open()->set_table("experience");
  ASSERT_TRUE(stream->Write(request));
  v1::SampleResponse response;
  EXPECT_FALSE(stream->Read(&response));
  grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("the sampler"));
}

// In a header, for which gRPC allows 8 KiB: it came as RESOURCE_EXHAUSTED.
TEST_F(ReplayServiceTest, ALongRefusalIsCutAndStaysWhatItIs) {
  Start(TestTable());
  grpc::ClientContext context;
  auto stream = stub_->Sample(&context);
  v1::SampleRequest open = OpenSample();
  for (int c = 0; c < 1000; ++c) {
    v1::TensorSpec& column =
        *open.mutable_open()->mutable_signature()->add_step_columns();
    column.set_name(absl::StrCat("\xc3\xa4_another_column_", c));
  }
  stream->Write(open);
  v1::SampleResponse response;
  EXPECT_FALSE(stream->Read(&response));
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION)
      << status.error_message();
  EXPECT_THAT(status.error_message(), HasSubstr("another_column_"));
  EXPECT_LT(status.error_message().size(), 2100u);
  v1::TensorSpec text;  // Of which Protobuf takes UTF-8 alone.
  text.set_name(status.error_message());
  EXPECT_TRUE(v1::TensorSpec().ParseFromString(text.SerializeAsString()));
}

// By gRPC's own words, which another version may change.
TEST_F(ReplayServiceTest, AMessageThatIsTooLargeIsRefusedForGood) {
  Start(TestTable());
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(1);
  const auto stub = v1::Replay::NewStub(grpc::CreateCustomChannel(
      server_->address(), grpc::InsecureChannelCredentials(), arguments));
  grpc::ClientContext context;
  v1::DescribeResponse response;
  const absl::Status status = FromGrpc(stub->Describe(&context, {}, &response));
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_TRUE(IsFinal(status)) << status;
  EXPECT_FALSE(IsFinal(absl::ResourceExhaustedError("no thread is left")));
}

TEST_F(ReplayServiceTest, SampleRequestsAreBounded) {
  Start(TestTable());
  grpc::ClientContext context;
  auto stream = stub_->Sample(&context);
  v1::SampleRequest open = OpenSample();
  open.mutable_open()->mutable_table()->append(ReplayService::kMaxOpenBytes,
                                               'x');
  stream->Write(open);
  v1::SampleResponse response;
  EXPECT_FALSE(stream->Read(&response));
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("allowed is at most 1048576"));
}

TEST_F(ReplayServiceTest, UnknownTableIsNotFound) {
  Start(TestTable());
  v1::TableSpec other = TestTable();
  other.set_name("other");
  AppendCall call(*stub_);
  EXPECT_EQ(call.Open(5, other), -1);
  grpc::Status status = call.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(status.error_message(), HasSubstr("\"experience\""));
}

TEST_F(ReplayServiceTest, FirstMessageMustBeOpen) {
  Start(TestTable());
  AppendCall append(*stub_);
  append.Send(OneItemBatch(1));
  EXPECT_EQ(append.Acknowledged(), -1);
  EXPECT_EQ(append.Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);

  grpc::ClientContext context;
  auto sample = stub_->Sample(&context);
  v1::SampleRequest request;
  request.mutable_draw()->set_count(1);
  sample->Write(request);
  v1::SampleResponse response;
  EXPECT_FALSE(sample->Read(&response));
  EXPECT_EQ(sample->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);

  AppendCall zero(*stub_);
  EXPECT_EQ(zero.Open(0), -1);
  EXPECT_THAT(zero.Finish().error_message(), HasSubstr("writer_id"));
  EXPECT_TRUE(Lives());
}

TEST_F(ReplayServiceTest, OpenComesOnce) {
  Start(TestTable());
  AppendCall call(*stub_);
  ASSERT_EQ(call.Open(5), 0);
  EXPECT_EQ(call.Open(5), -1);
  EXPECT_EQ(call.Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ReplayServiceTest, MalformedBatchEndsItsCallOnly) {
  Start(TestTable());
  AppendCall bystander(*stub_);
  ASSERT_EQ(bystander.Open(6), 0);
  AppendCall call(*stub_);
  ASSERT_EQ(call.Open(5), 0);
  v1::AppendBatch batch = OneItemBatch(1);
  batch.mutable_step_columns(0)->mutable_data()->pop_back();
  ASSERT_TRUE(call.Send(batch));
  EXPECT_EQ(call.Acknowledged(), -1);
  grpc::Status status = call.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("step_columns"));
  EXPECT_EQ(server_->Stats().steps(), 0u);
  ASSERT_TRUE(bystander.Send(OneItemBatch(1)));
  EXPECT_EQ(bystander.Acknowledged(), 1);
}

// To gRPC a message that does not parse is the end of a stream.
TEST_F(ReplayServiceTest, UnparseableMessagesEndTheirCallOnly) {
  Start(TestTable());
  const std::string garbage(1000, '\xff');
  grpc::Slice slice(garbage);
  for (const char* name :
       {"/qfleet.v1.Replay/Append", "/qfleet.v1.Replay/Sample",
        "/qfleet.v1.Replay/UpdatePriorities", "/qfleet.v1.Replay/Nothing"}) {
    grpc::ClientContext context;
    grpc::internal::RpcMethod method(
        name, grpc::internal::RpcMethod::BIDI_STREAMING, channel_);
    std::unique_ptr<
        grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>>
        call(grpc::internal::ClientReaderWriterFactory<
             grpc::ByteBuffer, grpc::ByteBuffer>::Create(channel_.get(), method,
                                                         &context));
    call->Write(grpc::ByteBuffer(&slice, 1));
    call->WritesDone();
    grpc::ByteBuffer answer;
    EXPECT_FALSE(call->Read(&answer)) << name;
    const grpc::Status status = call->Finish();
    EXPECT_FALSE(status.ok()) << name;
    if (absl::EndsWith(name, "Append") || absl::EndsWith(name, "Sample")) {
      EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
      EXPECT_THAT(status.error_message(), HasSubstr("1000 bytes"));
      EXPECT_THAT(status.error_message(), HasSubstr("does not parse"));
    }
    EXPECT_TRUE(Lives()) << name;
  }
}

TEST_F(ReplayServiceTest, GarbageOnThePortIsHarmless) {
  Start(TestTable());
  const int fd = RawConnection();
  std::string garbage;
  for (int i = 0; i < 4096; ++i) garbage.push_back(static_cast<char>(i * 37));
  EXPECT_GT(send(fd, garbage.data(), garbage.size(), MSG_NOSIGNAL), 0);
  char answer[4096];  // Until the server hangs up.
  while (recv(fd, answer, sizeof(answer), 0) > 0) {
  }
  close(fd);
  EXPECT_TRUE(Lives());
}

TEST_F(ReplayServiceTest, StaleSocketFileIsReplaced) {
  TestShard shard(TestTable());
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string path(absl::StripPrefix(shard.address(), "unix:"));
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)),
            0);
  close(fd);  // As a killed process leaves it.
  ASSERT_EQ(access(path.c_str(), F_OK), 0);
  shard.Start();
  auto stub = v1::Replay::NewStub(MakeChannel(shard.address()));
  AppendCall call(*stub);
  EXPECT_EQ(call.Open(1), 0);

  GrpcServer second;
  ReplayService service(&shard.shard(), nullptr);
  EXPECT_TRUE(absl::IsUnavailable(second.Start(shard.address(), {&service})));
}

TEST_F(ReplayServiceTest, BrokenConnectionCancelsItsHeldBatch) {
  Start(LimitedTestTable());
  AppendCall call(*stub_);
  ASSERT_EQ(call.Open(5), 0);
  for (uint64_t i = 1; i <= 5; ++i) {
    ASSERT_TRUE(call.Send(OneItemBatch(i)));
    if (i < 5) {
      ASSERT_EQ(call.Acknowledged(), static_cast<int64_t>(i));
    }
  }
  ASSERT_TRUE(
      Eventually([&] { return server_->Info().waiting_writers() == 1; }));
  call.Break();
  EXPECT_TRUE(
      Eventually([&] { return server_->Info().waiting_writers() == 0; }));
  EXPECT_EQ(call.Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(server_->Stats().inserted(), 4u);
}

TEST_F(ReplayServiceTest, NewestConnectionOfAWriterWins) {
  Start(LimitedTestTable());
  AppendCall old(*stub_);
  ASSERT_EQ(old.Open(5), 0);
  for (uint64_t i = 1; i <= 5; ++i) {
    ASSERT_TRUE(old.Send(OneItemBatch(i)));
    if (i < 5) {
      ASSERT_EQ(old.Acknowledged(), static_cast<int64_t>(i));
    }
  }
  ASSERT_TRUE(
      Eventually([&] { return server_->Info().waiting_writers() == 1; }));
  AppendCall young(*stub_);
  ASSERT_EQ(young.Open(5), 4);
  EXPECT_EQ(old.Acknowledged(), -1);
  EXPECT_EQ(old.Finish().error_code(), grpc::StatusCode::CANCELLED);
  ASSERT_TRUE(young.Send(OneItemBatch(5)));
  ASSERT_TRUE(
      Eventually([&] { return server_->Info().waiting_writers() == 1; }));
  v1::SampleResponse response;
  ASSERT_TRUE(server_->shard().Sample(0, DrawOf(1), response).ok());
  EXPECT_EQ(young.Acknowledged(), 5);
  EXPECT_EQ(server_->Stats().inserted(), 5u);
}

TEST_F(ReplayServiceTest, ShutdownEndsHeldAppendsWithUnavailable) {
  Start(LimitedTestTable());
  AppendCall call(*stub_);
  ASSERT_EQ(call.Open(5), 0);
  for (uint64_t i = 1; i <= 4; ++i) {
    ASSERT_TRUE(call.Send(OneItemBatch(i)));
    ASSERT_EQ(call.Acknowledged(), static_cast<int64_t>(i));
  }
  ASSERT_TRUE(call.Send(OneItemBatch(5)));
  ASSERT_TRUE(
      Eventually([&] { return server_->Info().waiting_writers() == 1; }));
  server_->shard().Shutdown();
  EXPECT_EQ(call.Acknowledged(), -1);
  EXPECT_EQ(call.Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(ReplayServiceTest, SampleAnswersEachRequestInOrder) {
  Start(TestTable());
  StoreOneItem(2.5f);
  grpc::ClientContext context;
  auto stream = stub_->Sample(&context);
  const v1::SampleRequest open = OpenSample();
  ASSERT_TRUE(stream->Write(open));
  for (uint32_t count : {3, 0, 2}) {
    v1::SampleRequest request;
    *request.mutable_draw() = DrawOf(count);
    ASSERT_TRUE(stream->Write(request));
  }
  v1::SampleResponse response;
  for (int count : {0, 3, 0, 2}) {  // The first answers `open`.
    ASSERT_TRUE(stream->Read(&response));
    EXPECT_EQ(response.slot_size(), count);
    EXPECT_EQ(response.stats().mass(), 2.5);
    EXPECT_EQ(response.stats().size(), 1u);
  }
  EXPECT_EQ(response.stats().sampled(), 3u);
  EXPECT_EQ(response.mass(0), 2.5);
}

TEST_F(ReplayServiceTest, LargeAnswersComeInOrderToo) {
  Start(TestTable());
  StoreOneItem(2.5f);
  grpc::ClientContext context;
  auto stream = stub_->Sample(&context);
  v1::SampleRequest request = OpenSample();
  ASSERT_TRUE(stream->Write(request));
  const std::vector<uint32_t> counts = {20000, 3, 0, 20001, 20002, 5, 20003};
  for (uint32_t count : counts) {
    *request.mutable_draw() = DrawOf(count);
    ASSERT_TRUE(stream->Write(request));
  }
  stream->WritesDone();
  v1::SampleResponse response;
  ASSERT_TRUE(stream->Read(&response));
  for (uint32_t count : counts) {
    ASSERT_TRUE(stream->Read(&response));
    ASSERT_EQ(response.slot_size(), static_cast<int>(count));
    EXPECT_THAT(response.mass(), ::testing::Each(2.5));
  }
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ReplayServiceTest, AnswersDoNotPileUpForASamplerThatDoesNotRead) {
  Start(TestTable());
  StoreOneItem(1);
  constexpr uint32_t kCount = 60000;  // 2 MB.
  grpc::ClientContext context;
  auto stream = second_stub_->Sample(&context);
  v1::SampleRequest request = OpenSample();
  ASSERT_TRUE(stream->Write(request));
  constexpr int kRequests = 64;
  for (int i = 0; i < kRequests; ++i) {
    *request.mutable_draw() = DrawOf(kCount);
    ASSERT_TRUE(stream->Write(request));
  }
  ASSERT_TRUE(Eventually([&] { return server_->Stats().sampled() >= kCount; }));
  // Others are served meanwhile, long enough for all of them to be gathered.
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(Lives());
  // One in the shard, and what gRPC's windows hold.
  EXPECT_LE(server_->Stats().sampled(), kRequests / 4 * kCount);
  context.TryCancel();
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

// Streams come in thousands and are mostly idle.
TEST_F(ReplayServiceTest, IdleAppendStreamsHoldNoThreads) {
  Start(TestTable());
  auto threads = [] {
    std::ifstream status("/proc/self/status");
    std::string word;
    while (status >> word && word != "Threads:") {
    }
    int count = 0;
    status >> count;
    return count;
  };
  AppendCall first(*stub_);
  ASSERT_EQ(first.Open(1), 0);
  const int before = threads();
  std::vector<std::unique_ptr<AppendCall>> calls;
  for (uint64_t writer = 2; writer <= 300; ++writer) {
    calls.push_back(
        std::make_unique<AppendCall>(writer % 2 == 0 ? *stub_ : *second_stub_));
    ASSERT_EQ(calls.back()->Open(writer), 0);
  }
  EXPECT_LT(threads() - before, 30);
}

}  // namespace
}  // namespace qfleet
