// What scripts/make_test_certificates.sh makes, and clients that use it.

#ifndef QFLEET_TESTS_CERTIFICATES_H_
#define QFLEET_TESTS_CERTIFICATES_H_

#include <memory>
#include <string>
#include <vector>

#include "grpcpp/channel.h"
#include "grpcpp/support/channel_arguments.h"

namespace qfleet {

// Makes or renews ca.crt, server.crt, server.key, client.crt, client.key in
// `folder`; `flags` are the script's.
void MakeTestCertificates(const std::string& folder,
                          const std::vector<std::string>& flags = {});

// --set=cluster.security.FIELD=... of a process with `name`'s certificate.
std::vector<std::string> SecurityFlags(const std::string& folder,
                                       const std::string& name);

// A file with this content that only its owner can read.
void WriteSecret(const std::string& path, const std::string& text);

// A channel of plain gRPC, over a connection of its own: with the authority of
// `authority` and the certificate `name` of `folder` (none if it is empty).
std::shared_ptr<grpc::Channel> TlsChannel(const std::string& address,
                                          const std::string& authority,
                                          const std::string& folder,
                                          const std::string& name = "client");
std::shared_ptr<grpc::Channel> PlainChannel(const std::string& address);

}  // namespace qfleet

#endif  // QFLEET_TESTS_CERTIFICATES_H_
