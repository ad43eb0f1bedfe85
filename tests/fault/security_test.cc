// Who is let in, who is not, and what is said to them: a real shard with TLS
// and a token. Certificates are scripts/make_test_certificates.sh's.

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "tests/certificates.h"
#include "tests/fault/append_call.h"
#include "tests/fault/shard_process.h"
#include "tests/fault/silent_connection.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

using testing::HasSubstr;

constexpr char kToken[] = "a-token-of-24-characters";
constexpr char kOtherToken[] = "another-token-of-the-like";

std::vector<std::string> Plus(std::vector<std::string> flags,
                              const std::vector<std::string>& more) {
  flags.insert(flags.end(), more.begin(), more.end());
  return flags;
}

class SecurityTest : public testing::Test {
 protected:
  void SetUp() override {
    MakeTestCertificates(ours_);
    WriteSecret(tokens_, absl::StrCat(kToken, "\n"));
  }

  void Start(const std::vector<std::string>& flags,
             const std::string& listen = "127.0.0.1:0") {
    shard_ = std::make_unique<ShardProcess>(
        folder_.path(),
        ShardProcess::Options{
            .table = record_.spec(), .flags = flags, .listen = listen});
    shard_->Start();
  }

  // Exit code and words of a shard that does not start.
  int Refused(const std::vector<std::string>& flags, const std::string& listen,
              std::string* output) {
    ShardProcess shard(
        folder_.path(),
        {.table = record_.spec(), .flags = flags, .listen = listen});
    const int code = shard.StartRefused(output);
    EXPECT_EQ(std::count(output->begin(), output->end(), '\n'), 1) << *output;
    return code;
  }

  std::shared_ptr<grpc::Channel> Good() {
    return TlsChannel(shard_->address(), ours_, ours_);
  }

  // A client's whole experience: appends a batch, or the status it gets.
  grpc::Status Append(const std::shared_ptr<grpc::Channel>& channel,
                      const std::string& token = "") {
    AppendCall call(v1::Replay::NewStub(channel), record_, ++writer_, token);
    if (call.Works()) return grpc::Status::OK;
    return call.Finish();
  }

  grpc::Status Describe(const std::shared_ptr<grpc::Channel>& channel,
                        v1::DescribeResponse* response,
                        const std::string& token = "") {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(20)));
    if (!token.empty()) {
      context.AddMetadata("authorization", absl::StrCat("Bearer ", token));
    }
    return v1::Replay::NewStub(channel)->Describe(&context, {}, response);
  }

  uint64_t Batches(const std::shared_ptr<grpc::Channel>& channel,
                   const std::string& token = "") {
    v1::DescribeResponse response;
    const grpc::Status status = Describe(channel, &response, token);
    EXPECT_TRUE(status.ok()) << status.error_message();
    uint64_t steps = 0;
    for (const auto& table : response.tables()) steps += table.stats().steps();
    return steps;
  }

  const TempDirectory folder_;
  const std::string ours_ = folder_.path() + "/ours";
  const std::string tokens_ = folder_.path() + "/tokens";
  const std::string token_flag_ =
      absl::StrCat("--set=cluster.security.token_file=", tokens_);
  Record record_{FaultTable(20000)};
  std::unique_ptr<ShardProcess> shard_;
  uint64_t writer_ = 0;
};

TEST_F(SecurityTest, OnlyCertificatesOfTheAuthorityGetIn) {
  const std::string theirs = folder_.path() + "/theirs";
  MakeTestCertificates(theirs);
  const std::string old = folder_.path() + "/old";
  std::filesystem::copy(ours_, old);
  MakeTestCertificates(old, {"--days=-1"});  // The same authority.
  Start(SecurityFlags(ours_, "server"));
  const std::string address = shard_->address();
  EXPECT_TRUE(Append(Good()).ok());
  const uint64_t stored = Batches(Good());
  EXPECT_GT(stored, 0u);

  struct Stranger {
    const char* what;
    std::shared_ptr<grpc::Channel> channel;
  };
  for (const Stranger& stranger : std::vector<Stranger>{
           {"no certificate", TlsChannel(address, ours_, "", "")},
           {"another authority's", TlsChannel(address, ours_, theirs)},
           {"expired", TlsChannel(address, ours_, old)},
           {"trusts another authority", TlsChannel(address, theirs, ours_)},
           {"plaintext", PlainChannel(address)}}) {
    const grpc::Status status = Append(stranger.channel);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE)
        << stranger.what << ": " << status.error_message();
    EXPECT_FALSE(status.error_message().empty()) << stranger.what;
  }
  EXPECT_EQ(Batches(Good()), stored) << "a stranger's steps were stored";
  EXPECT_TRUE(Append(Good()).ok());
  EXPECT_EQ(shard_->Stop(), 0);
}

TEST_F(SecurityTest, WithoutClientCertificatesTheTokenDecides) {
  Start(Plus(SecurityFlags(ours_, "server"),
             {"--set=cluster.security.require_client_certificate=false",
              token_flag_}));
  const auto channel = TlsChannel(shard_->address(), ours_, "", "");
  EXPECT_EQ(Append(channel).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_TRUE(Append(channel, kToken).ok());
  EXPECT_EQ(shard_->Stop(), 0);
}

// Calls a method by its name, with an empty message.
grpc::Status CallByName(const std::shared_ptr<grpc::Channel>& channel,
                        const std::string& method) {
  grpc::GenericStub stub(channel);
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(20)));
  const grpc::Slice nothing("");
  auto call = stub.PrepareUnaryCall(&context, method,
                                    grpc::ByteBuffer(&nothing, 1), &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  return status;
}

TEST_F(SecurityTest, WithoutItsTokenNothingIsDoneButHealthIsTold) {
  for (const std::string& listen :
       {std::string("127.0.0.1:0"),
        absl::StrCat("unix:", folder_.path(), "/token.sock")}) {
    Start({token_flag_}, listen);
    const auto channel = PlainChannel(shard_->address());
    const grpc::Status none = Append(channel);
    EXPECT_EQ(none.error_code(), grpc::StatusCode::UNAUTHENTICATED);
    EXPECT_THAT(none.error_message(),
                testing::AllOf(HasSubstr("no token"), HasSubstr("Bearer")));
    for (const std::string& token :
         {std::string(kOtherToken), std::string(kToken) + "x",
          std::string(kToken).substr(1), std::string("?")}) {
      const grpc::Status wrong = Append(channel, token);
      EXPECT_EQ(wrong.error_code(), grpc::StatusCode::UNAUTHENTICATED);
      EXPECT_THAT(wrong.error_message(), HasSubstr("wrong token"));
    }
    v1::DescribeResponse response;
    EXPECT_EQ(Describe(channel, &response).error_code(),
              grpc::StatusCode::UNAUTHENTICATED);
    EXPECT_EQ(CallByName(channel,
                         "/grpc.reflection.v1alpha.ServerReflection/"
                         "ServerReflectionInfo")
                  .error_code(),
              grpc::StatusCode::UNAUTHENTICATED);
    const grpc::Status health =
        CallByName(channel, "/grpc.health.v1.Health/Check");
    EXPECT_TRUE(health.ok()) << health.error_message();
    EXPECT_EQ(CallByName(channel, "/grpc.health.v1.Health/Watch").error_code(),
              grpc::StatusCode::UNAUTHENTICATED);
    EXPECT_EQ(Batches(channel, kToken), 0u);
    EXPECT_TRUE(Append(channel, kToken).ok());
    EXPECT_GT(Batches(channel, kToken), 0u);
    EXPECT_THAT(shard_->Log(), testing::Not(HasSubstr(kToken)));
    EXPECT_EQ(shard_->Stop(), 0);
  }
}

TEST_F(SecurityTest, ATokenIsReplacedWhileItServes) {
  Start({token_flag_});
  const auto channel = PlainChannel(shard_->address());
  EXPECT_TRUE(Append(channel, kToken).ok());
  v1::DescribeResponse response;
  WriteSecret(tokens_, absl::StrCat(kOtherToken, "\n", kToken, "\n"));
  EXPECT_TRUE(Eventually(
      [&] { return Describe(channel, &response, kOtherToken).ok(); }));
  EXPECT_TRUE(Describe(channel, &response, kToken).ok());
  WriteSecret(tokens_, absl::StrCat(kOtherToken, "\n"));
  EXPECT_TRUE(
      Eventually([&] { return !Describe(channel, &response, kToken).ok(); }));
  // What is no token is not taken, and the one before stays.
  WriteSecret(tokens_, "short\n");
  EXPECT_TRUE(Eventually([&] {
    return shard_->Log().find("not taken") != std::string::npos;
  })) << shard_->Log();
  EXPECT_TRUE(Describe(channel, &response, kOtherToken).ok());
  EXPECT_EQ(shard_->Stop(), 0);
}

// What a new connection is shown, by OpenSSL.
std::string SerialAt(const std::string& address, const std::string& folder) {
  std::string output;
  RunToEnd({"/bin/sh", "-c",
            absl::StrCat("openssl s_client -connect ", address, " -alpn h2",
                         " -CAfile ", folder, "/ca.crt -cert ", folder,
                         "/client.crt -key ", folder,
                         "/client.key </dev/null 2>/dev/null |"
                         " openssl x509 -noout -serial")},
           folder + ".serial", 20, &output);
  return output;
}

TEST_F(SecurityTest, CertificatesAreReplacedWhileAStreamGoesOn) {
  Start(SecurityFlags(ours_, "server"));
  AppendCall stream(v1::Replay::NewStub(Good()), record_, 1000);
  ASSERT_TRUE(stream.Works());
  const std::string first = SerialAt(shard_->address(), ours_);
  ASSERT_THAT(first, HasSubstr("serial="));

  // Half of a renewal: the key is another's. The old pair is served on.
  const std::string fresh = folder_.path() + "/fresh";
  std::filesystem::copy(ours_, fresh);
  MakeTestCertificates(fresh);
  const auto install = [&](const std::string& file) {
    std::filesystem::copy(absl::StrCat(fresh, "/", file),
                          absl::StrCat(ours_, "/", file, ".new"));
    std::filesystem::rename(absl::StrCat(ours_, "/", file, ".new"),
                            absl::StrCat(ours_, "/", file));
  };
  install("server.key");
  ASSERT_TRUE(Eventually([&] {
    return shard_->Log().find("cluster.security.key") != std::string::npos;
  })) << shard_->Log();
  EXPECT_EQ(SerialAt(shard_->address(), ours_), first);
  EXPECT_TRUE(Append(Good()).ok());

  install("server.crt");
  EXPECT_TRUE(Eventually([&] {
    const std::string serial = SerialAt(shard_->address(), ours_);
    return !serial.empty() && serial != first;
  })) << shard_->Log();
  EXPECT_TRUE(Append(Good()).ok());
  EXPECT_TRUE(stream.Send() && stream.Acknowledged());
  EXPECT_THAT(shard_->Log(), HasSubstr("is valid until"));
  // What is no certificate is not taken either.
  WriteSecret(ours_ + "/server.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n");
  EXPECT_TRUE(Eventually([&] {
    return shard_->Log().find("certificates in PEM") != std::string::npos;
  })) << shard_->Log();
  EXPECT_TRUE(Append(Good()).ok());
  EXPECT_TRUE(stream.Send() && stream.Acknowledged());
  EXPECT_EQ(shard_->Stop(), 0);
}

TEST_F(SecurityTest, WhatCannotBeIsRefusedAtTheStartInWords) {
  const std::string theirs = folder_.path() + "/theirs";
  MakeTestCertificates(theirs);
  const std::string old = folder_.path() + "/old";
  MakeTestCertificates(old, {"--days=-1"});
  const std::string open = folder_.path() + "/open";
  std::filesystem::copy(ours_, open);
  ASSERT_EQ(chmod((open + "/server.key").c_str(), 0644), 0);
  const std::string set = "--set=cluster.security.";
  const std::string ca = absl::StrCat(set, "ca=", ours_, "/ca.crt");
  const std::string certificate =
      absl::StrCat(set, "certificate=", ours_, "/server.crt");
  // gRPC would take the other key.
  const std::string both = folder_.path() + "/both.pem";
  {
    std::ofstream file(both);
    file << std::ifstream(theirs + "/server.key").rdbuf()
         << std::ifstream(ours_ + "/server.crt").rdbuf();
  }
  WriteSecret(folder_.path() + "/short", "short\n");
  struct Case {
    std::vector<std::string> flags;
    std::string listen;
    std::vector<std::string> words;
  };
  const std::vector<Case> cases = {
      {{}, "0.0.0.0:0", {"--listen", "0.0.0.0:0", "--insecure", "TLS"}},
      {{}, "[::]:0", {"--listen", "[::]:0", "--insecure"}},
      {{}, "example.com:7201", {"--listen", "--insecure"}},
      {{token_flag_}, "0.0.0.0:0", {"--listen", "--insecure"}},
      {{}, "unix-abstract:name", {"--listen", "host:port"}},
      {{ca}, "127.0.0.1:0", {"cluster.security.certificate", "--listen"}},
      {{ca, certificate}, "127.0.0.1:0", {"cluster.security.key", "not set"}},
      {{certificate, absl::StrCat(set, "key=", ours_, "/server.key")},
       "127.0.0.1:0",
       {"cluster.security.ca", "not set"}},
      {{absl::StrCat(set, "ca=", ours_, "/none"), certificate,
        absl::StrCat(set, "key=", ours_, "/server.key")},
       "127.0.0.1:0",
       {"cluster.security.ca", "/none", "No such file"}},
      {{absl::StrCat(set, "ca=", ours_, "/ca.key"), certificate,
        absl::StrCat(set, "key=", ours_, "/server.key")},
       "127.0.0.1:0",
       {"cluster.security.ca", "PEM"}},
      {{ca, certificate, absl::StrCat(set, "key=", theirs, "/server.key")},
       "127.0.0.1:0",
       {"cluster.security.key", "the key of the certificate"}},
      {{ca, absl::StrCat(set, "certificate=", both),
        absl::StrCat(set, "key=", ours_, "/server.key")},
       "127.0.0.1:0",
       {"cluster.security.certificate", "holds a key"}},
      {SecurityFlags(open, "server"),
       "127.0.0.1:0",
       {"cluster.security.key", "0644", "chmod"}},
      {SecurityFlags(old, "server"),
       "127.0.0.1:0",
       {"cluster.security.certificate", "expired"}},
      {{absl::StrCat(set, "token_file=", folder_.path(), "/short")},
       "127.0.0.1:0",
       {"cluster.security.token_file", "16 to 4096"}},
      {{token_flag_, "--set=cluster.learner=192.0.2.1:7301"},
       "127.0.0.1:0",
       {"cluster.learner", "192.0.2.1:7301", "token", "--insecure"}},
  };
  for (const Case& one : cases) {
    std::string output;
    EXPECT_EQ(Refused(one.flags, one.listen, &output), 2) << output;
    for (const std::string& word : one.words) {
      EXPECT_THAT(output, HasSubstr(word));
    }
    EXPECT_THAT(output, HasSubstr("allowed"));
  }
  // An address that this machine does not have: so it is the system that
  // refuses.
  for (const std::vector<std::string>& flags :
       {std::vector<std::string>{"--insecure"},
        SecurityFlags(ours_, "server")}) {
    std::string output;
    EXPECT_EQ(Refused(flags, "192.0.2.1:0", &output), 1) << output;
    EXPECT_THAT(output, HasSubstr("cannot listen there"));
  }
}

TEST_F(SecurityTest, HandshakesThatFailDoNotFillTheLog) {
  Start(SecurityFlags(ours_, "server"));
  for (int i = 0; i < 200; ++i) {
    SilentConnection stranger(shard_->address());
    stranger.Send("GET / HTTP/1.1\r\n\r\n");
    ASSERT_TRUE(Eventually([&] { return stranger.IsClosed(); }));
  }
  EXPECT_TRUE(Append(Good()).ok());
  EXPECT_THAT(shard_->Log(), HasSubstr("gRPC: Handshake failed"));
  const std::string log = shard_->Log();
  EXPECT_LT(std::count(log.begin(), log.end(), '\n'), 100);
  EXPECT_EQ(shard_->Stop(), 0);
}

TEST_F(SecurityTest, ASocketIsItsOwnersAlone) {
  const mode_t before = umask(0);
  Start({}, absl::StrCat("unix:", folder_.path(), "/mode.sock"));
  umask(before);
  struct stat info = {};
  ASSERT_EQ(stat((folder_.path() + "/mode.sock").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0700u);
  EXPECT_EQ(shard_->Stop(), 0);
}

// The commands that talk to a shard take the same settings.
TEST_F(SecurityTest, CommandsConnectWithTheConfigsSecurity) {
  Start(Plus(SecurityFlags(ours_, "server"), {token_flag_}));
  const std::string qfleet = absl::StrCat(QFLEET_BIN_DIR, "/qfleet");
  const std::vector<std::string> status = {qfleet, "status", shard_->address()};
  const std::string log = folder_.path() + "/command";
  const std::vector<std::string> client = SecurityFlags(ours_, "client");
  std::string output;
  EXPECT_EQ(
      RunToEnd(Plus(status, Plus(client, {token_flag_})), log, 30, &output), 0)
      << output;
  EXPECT_NE(RunToEnd(status, log, 30, &output), 0) << output;
  EXPECT_NE(RunToEnd(Plus(status, client), log, 30, &output), 0) << output;
  EXPECT_THAT(output, HasSubstr("no token"));
  // A certificate is for a name.
  EXPECT_NE(RunToEnd(Plus(status, Plus(client, {token_flag_,
                                                "--set=cluster.security."
                                                "server_name=another"})),
                     log, 30, &output),
            0)
      << output;
  EXPECT_EQ(RunToEnd(Plus(status, Plus(client, {token_flag_,
                                                "--set=cluster.security."
                                                "server_name=localhost"})),
                     log, 30, &output),
            0)
      << output;
  EXPECT_EQ(RunToEnd(Plus({qfleet, "status", "192.0.2.1:7201"}, {token_flag_}),
                     log, 30, &output),
            2);
  EXPECT_THAT(output, HasSubstr("ADDRESS = \"192.0.2.1:7201\""));
  EXPECT_EQ(shard_->Stop(), 0);
}

}  // namespace
}  // namespace qfleet
