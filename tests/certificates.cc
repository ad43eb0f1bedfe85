#include "tests/certificates.h"

#include <sys/stat.h>

#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "gtest/gtest.h"
#include "tests/process.h"

namespace qfleet {
namespace {

std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

grpc::ChannelArguments OwnConnection() {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 200);
  return arguments;
}

}  // namespace

void MakeTestCertificates(const std::string& folder,
                          const std::vector<std::string>& flags) {
  std::vector<std::string> command = {
      QFLEET_SOURCE_DIR "/scripts/make_test_certificates.sh", folder};
  command.insert(command.end(), flags.begin(), flags.end());
  std::string output;
  ASSERT_EQ(RunToEnd(command, absl::StrCat(folder, ".log"), 60, &output), 0)
      << output;
}

std::vector<std::string> SecurityFlags(const std::string& folder,
                                       const std::string& name) {
  const std::string set = "--set=cluster.security.";
  return {absl::StrCat(set, "ca=", folder, "/ca.crt"),
          absl::StrCat(set, "certificate=", folder, "/", name, ".crt"),
          absl::StrCat(set, "key=", folder, "/", name, ".key")};
}

void WriteSecret(const std::string& path, const std::string& text) {
  // As a renewal does it: the file is the old one or the new one.
  const std::string fresh = path + ".new";
  std::ofstream(fresh) << text;
  ASSERT_EQ(chmod(fresh.c_str(), S_IRUSR | S_IWUSR), 0);
  ASSERT_EQ(rename(fresh.c_str(), path.c_str()), 0);
}

std::shared_ptr<grpc::Channel> TlsChannel(const std::string& address,
                                          const std::string& authority,
                                          const std::string& folder,
                                          const std::string& name) {
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = Read(authority + "/ca.crt");
  if (!name.empty()) {
    options.pem_cert_chain = Read(absl::StrCat(folder, "/", name, ".crt"));
    options.pem_private_key = Read(absl::StrCat(folder, "/", name, ".key"));
  }
  return grpc::CreateCustomChannel(address, grpc::SslCredentials(options),
                                   OwnConnection());
}

std::shared_ptr<grpc::Channel> PlainChannel(const std::string& address) {
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(),
                                   OwnConnection());
}

}  // namespace qfleet
