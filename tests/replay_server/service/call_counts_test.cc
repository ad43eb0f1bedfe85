// What a shard's metrics say of its calls: those that its handlers count
// (Append, Sample, UpdatePriorities) beside those that an interceptor counts.
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qfleet/v1/replay.grpc.pb.h"
#include "tests/replay_server/service/test_shard.h"

namespace qfleet {
namespace {

constexpr char kAppend[] =
    "Append\",grpc_service=\"qfleet.v1.Replay\","
    "grpc_type=\"bidi_stream\"}";
constexpr char kSample[] =
    "Sample\",grpc_service=\"qfleet.v1.Replay\","
    "grpc_type=\"bidi_stream\"}";
constexpr char kUpdate[] =
    "UpdatePriorities\",grpc_service=\"qfleet.v1."
    "Replay\",grpc_type=\"unary\"}";
constexpr char kDescribe[] =
    "Describe\",grpc_service=\"qfleet.v1.Replay\","
    "grpc_type=\"unary\"}";
constexpr char kUnknown[] =
    "unknown\",grpc_service=\"unknown\","
    "grpc_type=\"unknown\"}";

template <typename Request, typename Response>
using Stream = std::unique_ptr<grpc::ClientReaderWriter<Request, Response>>;

class CallCountsTest : public ::testing::Test {
 protected:
  CallCountsTest() : shard_(TestTable()) {
    shard_.Start();
    stub_ = v1::Replay::NewStub(MakeChannel(shard_.address()));
    append_open_.mutable_open()->set_table(TestTable().name());
    append_open_.mutable_open()->set_writer_id(5);
    *append_open_.mutable_open()->mutable_signature() = TestTable().signature();
    sample_open_.mutable_open()->set_table(TestTable().name());
    *sample_open_.mutable_open()->mutable_signature() = TestTable().signature();
  }

  // -1: there is no such series.
  double Value(absl::string_view name, absl::string_view method,
               absl::string_view code = "") {
    const std::string series = absl::StrCat(
        "\ngrpc_server_", name, "{",
        code.empty() ? "" : absl::StrCat("grpc_code=\"", code, "\","),
        "grpc_method=\"", method, " ");
    const std::string text = shard_.metrics().Text();
    const size_t at = text.find(series);
    return at == std::string::npos ? -1
                                   : std::stod(text.substr(at + series.size()));
  }
  double Started(absl::string_view method) {
    return Value("started_total", method);
  }
  double Received(absl::string_view method) {
    return Value("msg_received_total", method);
  }
  double Sent(absl::string_view method) {
    return Value("msg_sent_total", method);
  }
  double Handled(absl::string_view method, absl::string_view code) {
    return Value("handled_total", method, code);
  }

  // One batch, acknowledged; the call is left open.
  Stream<v1::AppendRequest, v1::AppendResponse> AppendOne(
      grpc::ClientContext& context) {
    auto stream = stub_->Append(&context);
    v1::AppendRequest request;
    *request.mutable_batch() = OneItemBatch(1);
    v1::AppendResponse response;
    EXPECT_TRUE(stream->Write(append_open_));
    EXPECT_TRUE(stream->Read(&response));
    EXPECT_TRUE(stream->Write(request));
    EXPECT_TRUE(stream->Read(&response));
    return stream;
  }

  TestShard shard_;
  std::unique_ptr<v1::Replay::Stub> stub_;
  v1::AppendRequest append_open_;
  v1::SampleRequest sample_open_;
};

TEST_F(CallCountsTest, AnAppendCallFromBeginToEnd) {
  grpc::ClientContext context;
  auto stream = AppendOne(context);
  EXPECT_EQ(Started(kAppend), 1);
  EXPECT_EQ(Received(kAppend), 2);
  EXPECT_EQ(Sent(kAppend), 2);
  EXPECT_EQ(Handled(kAppend, "OK"), 0);
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(Started(kAppend), 1);
  EXPECT_EQ(Received(kAppend), 2);
  EXPECT_TRUE(Eventually([&] { return Handled(kAppend, "OK") == 1; }));
  EXPECT_EQ(Value("handling_seconds_count", kAppend), 1);
}

TEST_F(CallCountsTest, AnAppendCallThatIsRefusedByItsCode) {
  grpc::ClientContext context;
  auto stream = stub_->Append(&context);
  append_open_.mutable_open()->set_writer_id(0);
  stream->Write(append_open_);
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Handled(kAppend, "INVALID_ARGUMENT"), 1);
  EXPECT_EQ(Handled(kAppend, "OK"), 0);
  EXPECT_EQ(Received(kAppend), 1);
  EXPECT_EQ(Sent(kAppend), 0);
}

TEST_F(CallCountsTest, AnAppendCallThatItsClientCancelsIsCancelled) {
  grpc::ClientContext context;
  auto stream = AppendOne(context);
  context.TryCancel();
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(Eventually([&] { return Handled(kAppend, "CANCELLED") == 1; }));
  EXPECT_EQ(Handled(kAppend, "OK"), 0);
}

TEST_F(CallCountsTest, SampleCallsByTheirEnd) {
  grpc::ClientContext appending;
  auto append = AppendOne(appending);
  v1::SampleRequest draw;
  *draw.mutable_draw() = DrawOf(1);
  v1::SampleResponse response;
  {
    grpc::ClientContext context;
    auto stream = stub_->Sample(&context);
    ASSERT_TRUE(stream->Write(sample_open_));
    ASSERT_TRUE(stream->Read(&response));
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(stream->Write(draw));
      ASSERT_TRUE(stream->Read(&response));
    }
    EXPECT_EQ(Received(kSample), 4);
    EXPECT_EQ(Sent(kSample), 4);
    stream->WritesDone();
    EXPECT_TRUE(stream->Finish().ok());
    EXPECT_EQ(Handled(kSample, "OK"), 1);
  }
  {
    grpc::ClientContext context;
    auto stream = stub_->Sample(&context);
    ASSERT_TRUE(stream->Write(draw));  // Not opened.
    EXPECT_FALSE(stream->Read(&response));
    EXPECT_FALSE(stream->Finish().ok());
    EXPECT_EQ(Handled(kSample, "INVALID_ARGUMENT"), 1);
  }
  {
    grpc::ClientContext context;
    auto stream = stub_->Sample(&context);
    ASSERT_TRUE(stream->Write(sample_open_));
    ASSERT_TRUE(stream->Read(&response));
    context.TryCancel();
    EXPECT_FALSE(stream->Finish().ok());
    EXPECT_TRUE(Eventually([&] { return Handled(kSample, "CANCELLED") == 1; }));
  }
  EXPECT_EQ(Started(kSample), 3);
}

TEST_F(CallCountsTest, UnaryCallsOfBothKinds) {
  v1::UpdatePrioritiesRequest update;
  update.set_table("experience");
  v1::UpdatePrioritiesResponse updated;
  grpc::ClientContext good;
  EXPECT_TRUE(stub_->UpdatePriorities(&good, update, &updated).ok());
  update.add_slot(1);  // And no priority.
  grpc::ClientContext bad;
  EXPECT_EQ(stub_->UpdatePriorities(&bad, update, &updated).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Started(kUpdate), 2);
  EXPECT_EQ(Received(kUpdate), 2);
  EXPECT_EQ(Sent(kUpdate), 1);
  EXPECT_EQ(Handled(kUpdate, "OK"), 1);
  EXPECT_EQ(Handled(kUpdate, "INVALID_ARGUMENT"), 1);

  grpc::ClientContext context;
  v1::DescribeResponse described;
  EXPECT_TRUE(stub_->Describe(&context, {}, &described).ok());
  EXPECT_EQ(Handled(kDescribe, "OK"), 1);
  EXPECT_EQ(Started(kUnknown), 0);
}

// Nothing is left running in the books once a server has stopped.
TEST_F(CallCountsTest, AServerThatStopsLeavesNoCallUncounted) {
  grpc::ClientContext appending;
  auto append = AppendOne(appending);
  grpc::ClientContext sampling;
  auto sample = stub_->Sample(&sampling);
  v1::SampleResponse response;
  ASSERT_TRUE(sample->Write(sample_open_));
  ASSERT_TRUE(sample->Read(&response));
  shard_.Stop();
  EXPECT_EQ(Started(kAppend), 1);
  EXPECT_EQ(Handled(kAppend, "CANCELLED"), 1);
  EXPECT_EQ(Started(kSample), 1);
  EXPECT_EQ(Handled(kSample, "CANCELLED"), 1);
  append->Finish().IgnoreError();
  sample->Finish().IgnoreError();
}

}  // namespace
}  // namespace qfleet
